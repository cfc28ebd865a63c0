"""Pictures of a task's input reach the model, and those of a conversation do again."""

from __future__ import annotations

from conversations.message import Role
from orchestrator.agent_config import AgentConfig
from orchestrator.settings import load_settings
from tests.integration.llm_serving import serving
from workers.agent_manager import LocalAgentManager
from workers.in_process import open_orchestrator
from workers.tools.registry import ToolRegistry

URL = "https://example.com/a.png"
PART = {"type": "image_url", "image_url": {"url": URL, "detail": "auto"}}


async def test_pictures_pass_through_to_the_endpoint_in_every_turn():
    async with serving(["a cat", "still a cat"]) as (double, provider):
        manager = LocalAgentManager(provider, ToolRegistry([]))
        manager.register_agent(AgentConfig(name="seer"))
        async with open_orchestrator(load_settings(), manager=manager) as celeriac:
            conversation = await celeriac.conversations.create()
            for data in (
                {"prompt": "What is this?", "images": [URL]},
                {"prompt": "Sure?"},
            ):
                handle = await celeriac.submit(
                    "seer", data, conversation_id=conversation.id
                )
                await handle.result(timeout=30)
            kept = await celeriac.conversations.get_messages(conversation.id)
    first, second = (request.body["messages"] for request in double.requests)
    shown = {
        "role": "user",
        "content": [{"type": "text", "text": "What is this?"}, PART],
    }
    assert first == [shown]
    assert second[0] == shown
    assert second[-1] == {"role": "user", "content": "Sure?"}
    pictures = [len(each.message.images) for each in kept]
    assert pictures == [1, 0, 0, 0]
    assert kept[0].message.role is Role.USER
