"""P16: a worker dies about a call that must not be made twice, over real processes."""

from __future__ import annotations

import asyncio
import signal

import pytest

from orchestrator import EventType, TaskFailed, TaskStatus
from orchestrator.orchestrator import AsyncTaskHandle
from tests.faults.fleet import Fleet
from tests.faults.redis_proxy import Boundary, RedisProxy
from tests.faults.scripted_model import prompt

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

BEFORE_ITS_EFFECT = Boundary("start_step", "after")
"""The completion's mark came with the claim; the tool waits for the answer about its
own."""
AFTER_ITS_EFFECT = Boundary("record_step", "before", nth=2)


async def killed_at(fleet: Fleet, place: Boundary, *, tool: str) -> AsyncTaskHandle:
    """Submit a task whose worker dies at a place; another is there to go on."""
    fleet.model.tool = tool
    path = fleet.server.directory / "proxy.sock"
    async with RedisProxy(fleet.server.socket, path) as proxy:
        fleet.stand.environment["REDIS_URL"] = proxy.url
        first = await fleet.start_worker("--pool", "threads")
        proxy.hold(place)
        handle = await fleet.celeriac.submit("payer", {"prompt": prompt("a", turns=1)})
        await asyncio.wait_for(proxy.reached.wait(), 30)
        del fleet.stand.environment["REDIS_URL"]
        await fleet.start_worker("--pool", "threads")
        first.signal(signal.SIGKILL)
        await asyncio.to_thread(first.wait)
    return handle


async def waits_for_a_person(handle: AsyncTaskHandle) -> str:
    """Return the id of the call that is to be decided on."""
    async with asyncio.timeout(60):
        async for event in handle.events():
            if event.type is EventType.TASK_WAITING:
                break
    task = await handle.get()
    assert (task.status, task.attempt) == (TaskStatus.WAITING, 2)
    (call,) = task.awaiting
    assert (call.tool, call.reason) == ("pay", "unknown_outcome")
    return call.call_id


@pytest.mark.parametrize("place", [BEFORE_ITS_EFFECT, AFTER_ITS_EFFECT])
async def test_a_receipt_settles_a_call_whose_worker_was_killed(
    fleet: Fleet, place: Boundary
) -> None:
    handle = await killed_at(fleet, place, tool="pay_with_receipt")
    assert (await handle.result(timeout=60)).content == "done a"
    assert len(fleet.effects()) == 1
    assert (await handle.get()).attempt == 2
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 1}


@pytest.mark.parametrize("place", [BEFORE_ITS_EFFECT, AFTER_ITS_EFFECT])
async def test_without_a_receipt_a_person_decides_and_a_worker_obeys(
    fleet: Fleet, place: Boundary
) -> None:
    handle = await killed_at(fleet, place, tool="pay")
    call_id = await waits_for_a_person(handle)
    had_its_effect = place is AFTER_ITS_EFFECT
    assert len(fleet.effects()) == had_its_effect
    decision = "done" if had_its_effect else "run"
    output = {"output": "seen in the bank"} if had_its_effect else {}
    await fleet.celeriac.resolve(handle.id, call_id, decision, **output)
    assert (await handle.result(timeout=60)).content == "done a"
    assert len(fleet.effects()) == 1
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 1}


async def test_a_decision_outlives_the_worker_that_was_to_obey_it(fleet: Fleet) -> None:
    handle = await killed_at(fleet, AFTER_ITS_EFFECT, tool="pay")
    call_id = await waits_for_a_person(handle)
    fleet.model.hang = lambda label, number: number == 2 and len(workers) == 2
    workers = fleet.stand.workers
    await fleet.celeriac.resolve(handle.id, call_id, "done", output="seen")
    await fleet.until(fleet.requested("a", 2), 60)
    workers[1].signal(signal.SIGKILL)
    await fleet.start_worker("--pool", "threads")
    assert (await handle.result(timeout=60)).content == "done a"
    assert len(fleet.effects()) == 1
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 2}


async def test_a_decision_to_fail_ends_the_task(fleet: Fleet) -> None:
    handle = await killed_at(fleet, BEFORE_ITS_EFFECT, tool="pay")
    call_id = await waits_for_a_person(handle)
    await fleet.celeriac.resolve(handle.id, call_id, "fail", note="not our money")
    with pytest.raises(TaskFailed, match="not our money"):
        await handle.result(timeout=60)
    assert fleet.effects() == []
