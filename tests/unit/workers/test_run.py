"""How a run is interrupted: at steps, while recording, and against an agent's will."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import pytest

from orchestrator.task import Task
from workers.errors import SoftTimeLimitReached
from workers.run import Interrupt, Run


def make_run(**fields: object) -> Run:
    return Run(Task(agent_name="a", **fields))


async def start(run: Run, work: object) -> asyncio.Task[object]:
    agent = asyncio.create_task(work)
    run.start(agent)
    await asyncio.sleep(0)
    return agent


async def test_a_soft_limit_in_a_step_is_told_as_words_and_the_run_goes_on() -> None:
    run = make_run(soft_time_limit_seconds=0.01, time_limit_seconds=30)

    async def work() -> str:
        try:
            async with run.step("a tool"):
                await asyncio.Event().wait()
        except SoftTimeLimitReached:
            async with run.step("a tool"):
                await asyncio.sleep(0)
            return "answered"
        return "never told"

    agent = await start(run, work())
    assert await asyncio.wait_for(agent, 5) == "answered"
    assert agent.cancelling() == 0  # what it does afterwards is not to be cancelled
    assert run.wrapping_up
    run.stop()


async def test_a_step_that_swallows_its_cut_is_cut_again() -> None:
    """As one that tries again after a bare `except` does, so that an answer follows."""
    limits = {"soft_time_limit_seconds": 0.01, "time_limit_seconds": 30}
    run = Run(Task(agent_name="a", **limits), agent_stop_seconds=0.05)

    async def work() -> int:
        tries = 0
        with suppress(SoftTimeLimitReached):
            async with run.step("a tool"):
                while tries < 3:
                    tries += 1
                    with suppress(asyncio.CancelledError):
                        await asyncio.Event().wait()
                await asyncio.Event().wait()
        async with run.step("the last answer"):
            await asyncio.sleep(0.1)
        return tries

    agent = await start(run, work())
    assert await asyncio.wait_for(agent, 5) == 3
    assert agent.cancelling() == 0
    run.stop()


async def test_a_cut_that_a_step_swallowed_is_not_counted_after_it() -> None:
    """The agent's timeout would take it for another's cancel, and pass that on."""
    run = make_run(soft_time_limit_seconds=0.01, time_limit_seconds=30)

    async def work() -> str:
        try:
            async with asyncio.timeout(None) as limit:
                async with run.step("a tool"):
                    with suppress(asyncio.CancelledError):
                        await asyncio.Event().wait()
                limit.reschedule(asyncio.get_running_loop().time())
                await asyncio.Event().wait()
        except TimeoutError:
            return "went on"
        return "never"

    agent = await start(run, work())
    assert await asyncio.wait_for(agent, 5) == "went on"
    assert agent.cancelling() == 0
    run.stop()


async def test_a_soft_limit_reaches_every_tool_of_a_gathered_turn() -> None:
    run = make_run()
    told = 0

    async def step() -> None:
        nonlocal told
        try:
            async with run.step("a tool"):
                await asyncio.Event().wait()
        except SoftTimeLimitReached:
            told += 1
            raise

    async def work() -> str:
        try:
            await asyncio.gather(step(), step(), step())
        except SoftTimeLimitReached:
            return "answered"
        return "never told"

    agent = await start(run, work())
    await asyncio.sleep(0)
    run.interrupt(Interrupt.SOFT_LIMIT)
    assert await asyncio.wait_for(agent, 5) == "answered"
    assert told == 3


async def test_a_soft_limit_waits_for_a_recording_and_is_told_at_the_next_step() -> (
    None
):
    run = make_run()
    recorded = asyncio.Event()

    async def work() -> str:
        with run.recording():
            await recorded.wait()
        with pytest.raises(SoftTimeLimitReached):
            async with run.step("a tool"):
                pass
        return "recorded"

    agent = await start(run, work())
    run.interrupt(Interrupt.SOFT_LIMIT)
    recorded.set()
    assert await asyncio.wait_for(agent, 5) == "recorded"


async def test_a_soft_limit_outside_any_step_cancels_the_agent() -> None:
    run = make_run()
    agent = await start(run, asyncio.Event().wait())
    run.interrupt(Interrupt.SOFT_LIMIT)
    await asyncio.wait({agent}, timeout=5)
    assert agent.cancelled()


async def test_a_run_that_goes_on_after_its_soft_limit_is_told_at_its_first_step() -> (
    None
):
    run = make_run(soft_time_limit_seconds=1, time_limit_seconds=30, running_seconds=2)

    async def work() -> str:
        while run.interrupt_reason is None:  # it begins its calls together, say
            await asyncio.sleep(0)
        with pytest.raises(SoftTimeLimitReached):
            async with run.step("a tool"):
                pass
        return "answered"

    agent = await start(run, work())
    assert await asyncio.wait_for(agent, 5) == "answered"
    run.stop()


async def test_a_cancel_is_not_turned_into_a_soft_limit() -> None:
    run = make_run()

    async def work() -> None:
        async with run.step("a tool"):
            await asyncio.Event().wait()

    agent = await start(run, work())
    run.interrupt(Interrupt.SOFT_LIMIT)
    run.interrupt(Interrupt.CANCEL)
    await asyncio.wait({agent}, timeout=5)
    assert agent.cancelled()
    assert run.interrupt_reason is Interrupt.CANCEL
    run.stop()


async def test_a_lower_interrupt_does_not_overrule_a_higher_one() -> None:
    run = make_run()
    run.interrupt(Interrupt.LEASE_LOST)
    run.interrupt(Interrupt.CANCEL)
    assert run.interrupt_reason is Interrupt.LEASE_LOST


async def test_a_drain_lets_a_step_end_and_stops_before_the_next() -> None:
    run = make_run()
    step_ends = asyncio.Event()
    done: list[str] = []

    async def work() -> None:
        async with run.step("a tool"):
            await step_ends.wait()
        done.append("first")
        async with run.step("a tool"):
            done.append("second")

    agent = await start(run, work())
    run.interrupt(Interrupt.DRAIN)
    step_ends.set()
    await asyncio.wait({agent}, timeout=5)
    assert agent.cancelled()
    assert done == ["first"]
    assert run.interrupt_reason is Interrupt.DRAIN


@pytest.mark.parametrize("beside", ["step", "recording"])
async def test_a_drain_cuts_short_nothing_that_is_under_way_beside(beside: str) -> None:
    run = make_run()
    go_on, done = asyncio.Event(), list[str]()

    async def other() -> None:
        if beside == "step":
            async with run.step("a tool"):
                await go_on.wait()
        else:
            with run.recording():
                await go_on.wait()
        done.append("other")

    async def work() -> None:
        calling = asyncio.create_task(other())
        await asyncio.sleep(0)
        run.interrupt(Interrupt.DRAIN)
        async with run.step("a tool"):
            done.append("first")
        go_on.set()
        await calling
        async with run.step("a tool"):
            done.append("second")

    agent = await start(run, work())
    await asyncio.wait({agent}, timeout=5)
    assert agent.cancelled()
    assert done == ["first", "other"]


async def test_an_agent_that_ignores_its_cancel_is_left_behind() -> None:
    run = Run(Task(agent_name="a"), agent_stop_seconds=0.01)
    freed = asyncio.Event()

    async def stubborn() -> None:
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                continue

    agent = asyncio.create_task(stubborn())
    abandoned = run.start(agent)
    await asyncio.sleep(0)
    run.interrupt(Interrupt.HARD_LIMIT)
    await asyncio.wait_for(abandoned, 5)
    assert not agent.done()
    freed.set()
    await agent
    run.stop()


async def test_limits_count_the_seconds_of_earlier_attempts() -> None:
    run = make_run(soft_time_limit_seconds=10, time_limit_seconds=20, running_seconds=9)
    assert 0 < run.remaining_seconds() <= 1
    assert make_run().remaining_seconds() == math.inf
    assert make_run(time_limit_seconds=5).remaining_seconds() <= 5


async def test_each_of_what_begins_together_is_told_of_a_limit_that_passed_before() -> (
    None
):
    """As on an attempt whose soft limit an earlier one has used up."""
    run = make_run()
    told: list[str] = []

    async def call(name: str) -> None:
        with run.recording():
            await asyncio.sleep(0)
        try:
            async with run.step(name):
                await asyncio.Event().wait()
        except SoftTimeLimitReached:
            told.append(name)

    async def work() -> str:
        run.interrupt(Interrupt.SOFT_LIMIT)
        await asyncio.gather(call("one"), call("two"))
        with run.recording():
            await asyncio.sleep(0)
        async with run.step("the last answer"):
            return "answered"

    agent = await start(run, work())
    assert await asyncio.wait_for(agent, 5) == "answered"
    assert told == ["one", "two"]


@pytest.mark.parametrize("stopped_by", [Interrupt.HARD_LIMIT, None])
async def test_a_step_that_swallows_its_cancel_hears_another_after_the_runs_end(
    stopped_by: Interrupt | None,
) -> None:
    run = Run(Task(agent_name="a"), agent_stop_seconds=0.05)
    heard = 0

    async def stubborn() -> None:
        nonlocal heard
        async with run.step("a tool"):
            while heard < 2:
                try:
                    await asyncio.sleep(5)
                except asyncio.CancelledError:
                    heard += 1
                else:
                    return

    async def work() -> None:
        step = asyncio.create_task(stubborn())
        left.append(step)
        if stopped_by is None:
            await asyncio.sleep(0)
        else:
            await asyncio.wait(left)

    left: list[asyncio.Task[None]] = []
    agent = await start(run, work())
    await asyncio.sleep(0)
    if stopped_by is not None:
        run.interrupt(stopped_by)
    await asyncio.wait({agent})
    run.stop()
    await asyncio.wait(left)
    assert heard == 2
