"""What the journal holds of steps that wait at their endpoint's gate."""

from __future__ import annotations

import asyncio

import pytest

from conversations.message import ToolCall
from orchestrator.gate import CallOutcome, Departure, GateLimits
from tests.unit.workers.gated_stand import (
    ASK,
    ONE,
    SOON,
    Stand,
)
from workers.errors import GateClosed, LLMUnavailable
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.concurrently import gather_or_cancel
from workers.tools.tool import ToolContext, tool


async def test_a_completion_is_marked_once_it_has_its_permit_and_reservation():
    stand = Stand(["yes"])
    await stand.context.complete(ASK)
    assert stand.log.marks == stand.log.steps == ["completion:1"]
    assert stand.log.at_mark == [(1, True)]


async def test_a_completion_that_waits_at_a_closed_gate_is_not_marked():
    stand = Stand(["no"], park_after=0.0)
    await stand.occupy()
    with pytest.raises(GateClosed):
        await stand.context.complete(ASK)
    assert stand.log.marks == []
    assert stand.llms[0].unused == ["no"]


async def test_a_call_that_was_cut_off_stays_counted_whole():
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Hanging(ScriptedLLMProvider):
        async def complete(self, request: CompletionRequest) -> Completion:
            asked.set()
            await go_on.wait()
            return await super().complete(request)

    stand = Stand(Hanging())
    completing = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        await asked.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    assert stand.log.marks == ["completion:1"]
    assert stand.log.dropped == []
    assert await stand.in_flight() == 0
    assert (await stand.budget.spent("default", stand.account)).tokens > 4096


async def test_a_request_without_an_answer_stays_marked_when_the_next_is_refused():
    lost, refused = LLMUnavailable("lost"), LLMUnavailable("down", status=503)
    stand = Stand([lost], [refused])
    with pytest.raises(LLMUnavailable, match="down"):
        await stand.context.complete(ASK)
    assert len(stand.log.marks) == 2
    assert stand.log.dropped == []


async def test_a_once_tool_waits_at_the_gate_in_its_slot():
    @tool(effect="once")
    async def ask(ctx: ToolContext) -> str:
        """Ask a model."""
        assert ctx.llm is not None
        return (await ctx.llm.complete(ASK)).message.content

    stand = Stand(["yes"], tools=[ask], park_after=0.0)
    permit = await stand.occupy()
    call = ToolCall(id="c", name="ask", arguments={})
    async with asyncio.timeout(SOON):
        calling = asyncio.create_task(stand.context.call_tool(call))
        while not (await stand.gate.state(stand.gate_name, ONE)).waiting:
            await asyncio.sleep(0.005)
        await stand.gate.leave(permit, Departure(outcome=CallOutcome.ANSWERED))
        assert (await calling).content == "yes"


async def test_a_closed_gate_ends_the_attempt_after_the_once_calls_beside_it():
    begun, go_on = asyncio.Event(), asyncio.Event()

    @tool(effect="once")
    async def pay() -> str:
        """Pay."""
        begun.set()
        await go_on.wait()
        return "paid"

    @tool(effect="pure")
    async def ask(ctx: ToolContext) -> str:
        """Ask a model."""
        assert ctx.llm is not None
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        return (await ctx.llm.complete(ASK)).message.content

    stand = Stand(["no"], tools=[pay, ask], park_after=0.0)
    await stand.occupy()
    calls = [ToolCall(id=name, name=name, arguments={}) for name in ("ask", "pay")]
    async with asyncio.timeout(SOON):
        with pytest.raises(GateClosed):
            await gather_or_cancel(stand.context.call_tool(call) for call in calls)
    assert stand.log.steps == ["tool:0:pay"]


@pytest.mark.parametrize(
    ("limits", "tokens", "ahead"),
    [
        (ONE, None, []),
        (GateLimits(), 100_000, []),
        (GateLimits(), None, ["completion:2"]),
    ],
)
async def test_a_completion_behind_a_gate_or_a_budget_is_not_marked_ahead(
    limits: GateLimits, tokens: int | None, ahead: list[str]
) -> None:
    call = ToolCall(id="c", name="unknown")
    stand = Stand([[call]], limits=limits, tokens=tokens)
    await stand.context.complete(ASK)
    await stand.context.call_tool(call)
    assert stand.log.ahead == ahead
