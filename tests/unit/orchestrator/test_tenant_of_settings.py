"""A call that names no tenant means the settings' own, in conversations too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from conversations.memory_store import InMemoryConversationStore
from conversations.service import ConversationService
from orchestrator import load_settings
from orchestrator.agent_config import AgentConfig
from orchestrator.blocking_conversations import BlockingConversations
from orchestrator.wiring import conversation_service
from tests.unit.conversations.histories import user
from workers.agent_manager import LocalAgentManager
from workers.in_process import open_orchestrator
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry

Call = Callable[..., Any]


@pytest.fixture
def store() -> InMemoryConversationStore:
    return InMemoryConversationStore()


@pytest.fixture(params=["async", "blocking"])
def call(
    request: pytest.FixtureRequest, store: InMemoryConversationStore
) -> Iterator[Call]:
    """Calls a method of the service, by its name, through one of its two faces."""
    service = conversation_service(load_settings(tenant="acme"), store)
    assert service is not None
    with asyncio.Runner() as runner:
        if request.param == "blocking":
            blocking = BlockingConversations(service, runner.run)
            yield lambda name, *args, **named: getattr(blocking, name)(*args, **named)
            return
        yield lambda name, *args, **named: runner.run(
            _answer_of(service, name, *args, **named)
        )


async def _answer_of(
    service: ConversationService, name: str, *args: Any, **named: Any
) -> Any:
    answer = getattr(service, name)(*args, **named)
    if isinstance(answer, AsyncIterator):
        return [each async for each in answer]
    return await answer


def test_every_method_means_the_tenant_of_the_settings(
    call: Call, store: InMemoryConversationStore
) -> None:
    hello = {"role": "user", "content": "hello"}
    made = call("create", conversation_id="talk", messages=[hello])
    assert made.tenant == "acme"
    call("add_message", "talk", hello)
    call("add_messages", "talk", [hello])
    assert call("get", "talk").last_seq == 3
    assert call("update_metadata", "talk", {"a": 1}).metadata == {"a": 1}
    assert len(call("get_messages", "talk")) == 3
    assert call("get_message", "talk", 3).seq == 3
    assert len(call("window", "talk")) == 3
    text = "".join(call("export_lines", "talk"))
    assert text == call("export", "talk")
    lines = text.splitlines(keepends=True)
    assert call("import_", text, conversation_id="second").tenant == "acme"
    assert call("import_lines", lines, conversation_id="third").tenant == "acme"
    assert call("fork", "talk", new_id="side").tenant == "acme"
    assert call("branch", "talk", at=2).tenant == "acme"
    assert call("delete_message", "talk", 1).message_count == 2
    listed = [head.id for head in call("list").conversations]
    assert listed == ["side", "third", "second", "talk"]
    assert call("list", tenant="default").conversations == ()
    assert call("delete", "side", tenant="default") is False
    assert call("delete", "side") is True


def test_a_turn_of_the_settings_tenant_is_found_again(
    call: Call, store: InMemoryConversationStore
) -> None:
    call("create", conversation_id="talk")
    asyncio.run(store.append("acme", "talk", [user("1")], turn="t1"))
    (stored,) = call("get_turn", "talk", "t1")
    assert stored.turn == "t1"


async def test_what_a_task_said_is_read_without_naming_the_tenant() -> None:
    manager = LocalAgentManager(ScriptedLLMProvider(replies=["Hi."]), ToolRegistry())
    manager.register_agent(AgentConfig(name="assistant"))
    settings = load_settings(tenant="acme")
    async with open_orchestrator(settings, manager=manager) as celeriac:
        chat = celeriac.chat("assistant", "talk")
        await chat.send("Hello", timeout=10)
        stored = await celeriac.conversations.get_messages("talk")
        assert [each.message.content for each in stored] == ["Hello", "Hi."]
        assert (await celeriac.conversations.view("talk")).messages()
