"""Answers that the official client reads as an object of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.agent_config import AgentConfig
from tests.acceptance.openai_client import service
from workers.agent_manager import LocalAgentManager
from workers.llm.reply import Reply, ScriptedCall
from workers.tools.tool import tool

ANSWER = '{"name": "Oslo"}'
FENCED = f"Here it is:\n```json\n{ANSWER}\n```"


class City(BaseModel):
    name: str


@tool(effect="pure")
def look() -> str:
    """Look it up."""
    return "Oslo"


def prepare(manager: LocalAgentManager) -> None:
    manager.register_agent(AgentConfig(name="forecaster", tools=("look",)))


LOOKED = Reply(text="I look it up.", tool_calls=(ScriptedCall(id="c", name="look"),))


@pytest.mark.parametrize(
    "replies",
    [
        [ANSWER],
        [FENCED],
        [LOOKED, ANSWER],
        [LOOKED, FENCED],
        [LOOKED, "Oslo!", ANSWER],
    ],
)
async def test_the_client_reads_the_answer_and_nothing_else(replies: Any) -> None:
    asked: dict[str, Any] = {
        "model": "forecaster",
        "input": "which?",
        "text_format": City,
    }
    async with service([*replies, *replies], prepare=prepare, tools=[look]) as (
        _,
        client,
    ):
        response = await client.responses.parse(**asked)
        assert response.output_parsed == City(name="Oslo")
        async with asyncio.timeout(20), client.responses.stream(**asked) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
    assert final.output_parsed == City(name="Oslo")
    ended = [e.item for e in events if e.type == "response.output_item.done"]
    shown = [(item.type, item.id, getattr(item, "phase", None)) for item in ended]
    assert shown == [(o.type, o.id, getattr(o, "phase", None)) for o in final.output]
    messages = [item for item in ended if item.type == "message"]
    assert [m.phase for m in messages] == ["commentary"] * (len(messages) - 1) + [None]
    assert messages[-1].content[0].text == ANSWER


async def test_a_last_answer_that_calls_a_tool_in_vain_is_read_too() -> None:
    """The turns are used up: nothing follows it, so it is no commentary."""

    def register(manager: LocalAgentManager) -> None:
        config = AgentConfig(name="hasty", tools=("look",), max_turns=1)
        manager.register_agent(config)

    last = Reply(text=ANSWER, tool_calls=(ScriptedCall(id="d", name="look"),))
    async with service([LOOKED, last], prepare=register, tools=[look]) as (_, client):
        response = await client.responses.parse(
            model="hasty", input="which?", text_format=City
        )
    assert response.status == "incomplete"
    assert response.output_parsed == City(name="Oslo")
