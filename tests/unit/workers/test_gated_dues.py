"""What a run that was stopped pays for its calls, and gives back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conversations.errors import RedactionFailed
from conversations.message import ToolCall
from conversations.view import ConversationView
from conversations.window import Window
from orchestrator.budget import Reservation
from orchestrator.dues import Needs
from orchestrator.errors import LeaseLost, StoreFull, StoreUnavailable
from orchestrator.gate import CallOutcome, Departure, Permit
from tests.unit.workers.gated_stand import (
    ASK,
    ONE,
    SOON,
    TOOK,
    Owing,
    took,
)
from workers.llm.endpoints import ServedEndpoint
from workers.tools.tool import ToolContext, tool


@pytest.mark.parametrize("where", ["complete", "summarise"])
async def test_a_run_stopped_between_answer_and_record_pays_what_it_took(where: str):
    stand = Owing([took()])
    recording = asyncio.Event()

    async def hang(*_: object, dues: object = None, **__: object) -> None:
        assert dues is not None
        assert await stand.in_flight() == 1
        recording.set()
        await asyncio.get_running_loop().create_future()

    stand.log.record = hang
    view = ConversationView(to_summarise=ASK.messages, window=Window(cut=1))
    work = (
        stand.context.complete(ASK)
        if where == "complete"
        else stand.context.summarise(view)
    )
    running = asyncio.create_task(work)
    async with asyncio.timeout(SOON):
        await recording.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.settled(TOOK.total_tokens)


@pytest.mark.parametrize(
    "error", [LeaseLost("t", fence=1), StoreFull("full"), RedactionFailed("hook")]
)
async def test_a_record_that_fails_still_pays_what_its_call_took(error: Exception):
    stand = Owing([took()])

    async def refuse(*_: object, **__: object) -> None:
        raise error

    stand.log.record = refuse
    with pytest.raises(type(error)):
        await stand.context.complete(ASK)
    await stand.settled(TOOK.total_tokens)


async def test_a_run_stopped_while_its_answer_is_looked_at_pays_what_it_took():
    looked = asyncio.Event()

    class Looking(ServedEndpoint):
        async def context_of(self, model: str) -> int | None:
            if stand.llms[0].unused:
                return None
            looked.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError("nobody goes on")

    stand = Owing([took()], endpoint_class=Looking)
    running = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        await looked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.settled(TOOK.total_tokens)


async def test_a_tool_that_crashes_after_its_completion_owes_nothing():
    @tool(effect="pure")
    async def ask(ctx: ToolContext) -> str:
        """Ask a model."""
        assert ctx.llm is not None
        await ctx.llm.complete(ASK)
        assert await stand.in_flight() == 0
        raise ZeroDivisionError

    stand = Owing([took()], tools=[ask])
    call = ToolCall(id="c", name="ask", arguments={})
    result = await stand.context.call_tool(call)
    assert result.error == "tool_failed"
    await stand.settled(TOOK.total_tokens)


async def test_a_recorded_completion_is_not_paid_a_second_time():
    stand = Owing([took()])
    await stand.context.complete(ASK)
    assert stand.log.steps == ["completion:1"]
    assert await stand.in_flight() == 1  # this log pays nothing; the store's does


@pytest.mark.parametrize("what", ["reserve", "enter"])
async def test_what_was_granted_to_a_stopped_run_is_given_back(what: str):
    stand = Owing(["no"])
    granted = asyncio.Event()
    part = stand.budget if what == "reserve" else stand.gate
    grant = getattr(part, what)
    seen: list[object] = []

    async def unheard(*arguments: Any) -> object:
        answer = await grant(*arguments)
        if not seen:
            seen.append(answer)
            granted.set()
            await asyncio.get_running_loop().create_future()
        return answer

    setattr(part, what, unheard)
    running = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        await granted.wait()
    assert isinstance(seen[0], Reservation | Permit)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.settled(0)
    assert stand.llms[0].unused == ["no"]


@pytest.mark.parametrize("error", [LeaseLost("t", fence=1), StoreFull("full")])
async def test_a_completion_whose_mark_is_refused_has_taken_nothing(error: Exception):
    stand = Owing(["no"])

    async def refuse(start: object) -> None:
        assert await stand.in_flight() == 1
        raise error

    stand.log.start = refuse
    with pytest.raises(type(error)):
        await stand.context.complete(ASK)
    await stand.settled(0)
    assert stand.llms[0].unused == ["no"]


async def test_a_lease_lost_after_an_admission_that_was_not_heard_of_costs_nothing():
    stand = Owing(["no"])
    toll = stand.context._llm._governor.rules.toll
    refusals = [StoreUnavailable("Redis is away"), LeaseLost("t", fence=1)]

    async def unheard(start: object, needs: Needs) -> None:
        await toll.admit(needs)
        raise refusals.pop(0)

    stand.log.admit = unheard
    with pytest.raises(LeaseLost):
        await stand.context.complete(ASK)
    assert not refusals
    await stand.settled(0)


async def test_who_is_stopped_while_it_waits_holds_nobody_up():
    stand = Owing(["no"])
    permit = await stand.occupy()
    running = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        while not (await stand.gate.state(stand.gate_name, ONE)).waiting:
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.gate.leave(permit, Departure(outcome=CallOutcome.ANSWERED))
    assert await stand.occupy()
