"""A: processes that die, freeze or are told to go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from orchestrator import EventType, TaskEvent, TaskStatus
from orchestrator.celery_settings import celery_settings
from orchestrator.orchestrator import AsyncTaskHandle
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import broken_invariants
from tests.stand import RunningWorker

pytestmark = pytest.mark.timeout(120)

ALL_POOLS = ["async", "prefork", "threads", "solo"]
QUICK_POOLS = ["async", "prefork"]
POOLS = [
    *QUICK_POOLS,
    *(pytest.param(pool, marks=pytest.mark.slow) for pool in ("threads", "solo")),
]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def events_of(handle: AsyncTaskHandle) -> tuple[TaskEvent, ...]:
    """The events so far."""
    store = handle._orchestrator._parts.store
    return await store.events(handle.tenant, handle.id)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ALL_POOLS)
async def test_a_killed_workers_run_goes_on_elsewhere_from_its_last_step(
    fleet: Fleet, pool: str
) -> None:
    first = await fleet.start_worker(*choose(pool))
    fleet.model.hang = lambda label, number: (
        number == 2 and len(fleet.stand.workers) == 1
    )
    handle = await fleet.submit("a", turns=2)
    await fleet.until(fleet.requested("a", 2))
    killed = time.monotonic()
    first.signal(signal.SIGKILL)
    await fleet.start_worker(*choose(pool))
    result = await handle.result(timeout=30)
    assert time.monotonic() - killed < 25
    assert result.content == "done a"
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 2, ("a", 3): 1}
    record = await handle.get()
    assert (record.attempt, record.crashes) == (2, 0)
    assert await broken_invariants(fleet) == []


async def test_a_killed_prefork_child_harms_no_sibling(fleet: Fleet) -> None:
    """Its run goes on long before its lease of a minute ends: the kernel is asked."""
    fleet.stand.environment |= {"CELERIAC_WORKER__LEASE": "60s"}
    worker = await fleet.start_worker("--pool", "prefork", slots=2)
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b"):
        await fleet.submit(label, turns=2)
    await fleet.until(lambda: len(fleet.model.requests) >= 2)
    task = await fleet.record("a")
    assert task.worker is not None
    victim = int(task.worker.split(":")[1])
    assert parent_of(victim) == worker.pid
    os.kill(victim, signal.SIGKILL)
    await fleet.all_ended(40)
    assert (await fleet.record("a")).attempt == 2
    assert (await fleet.record("b")).attempt == 1
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


@pytest.mark.parametrize("pool", POOLS)
async def test_sigterm_hands_a_run_over_at_its_next_step_boundary(
    fleet: Fleet, pool: str
) -> None:
    first = await fleet.start_worker(*choose(pool))
    handle = await fleet.celeriac.submit("sleeper", {"steps": 25})
    fleet.accepted["sleeper"] = handle.id
    async for event in handle.events():
        if event.type is EventType.STEP_RECORDED:
            break
    asked = time.monotonic()
    first.signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait) == 0
    assert time.monotonic() - asked < 20  # the grace is 25 s
    task = await handle.get()
    assert (task.status, task.attempt) == (TaskStatus.PENDING, 1)
    released = [e for e in await events_of(handle) if e.type is EventType.TASK_RELEASED]
    assert [event.data["reason"] for event in released] == ["worker shutting down"]
    await fleet.start_worker(*choose(pool))
    result = await handle.result(timeout=30)
    assert (await handle.get()).attempt == 2
    assert (await handle.get()).crashes == 0
    pids = result.output["pids"]
    assert len(pids) == 25
    assert len(set(pids)) == 2
    assert await broken_invariants(fleet) == []


def by_remote_control(fleet: Fleet, worker: RunningWorker) -> None:
    app = celery_app(fleet)
    app.control.shutdown()
    app.close()


def by_sighup(fleet: Fleet, worker: RunningWorker) -> None:
    worker.signal(signal.SIGHUP)


@pytest.mark.parametrize("ask", [by_remote_control, by_sighup])
async def test_whatever_shuts_a_worker_down_hands_its_runs_over(
    fleet: Fleet, ask: Callable[[Fleet, RunningWorker], None]
) -> None:
    first = await fleet.start_worker()
    handle = await fleet.celeriac.submit("sleeper", {"steps": 60})
    fleet.accepted["sleeper"] = handle.id
    async for event in handle.events():
        if event.type is EventType.STEP_RECORDED:
            break
    await asyncio.to_thread(ask, fleet, first)
    async with asyncio.timeout(10):
        async for event in handle.events():
            if event.type is EventType.TASK_RELEASED:
                break
    await handle.cancel()
    await fleet.all_ended(20)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ALL_POOLS)
async def test_after_the_grace_a_run_within_a_step_is_released_too(
    fleet: Fleet, pool: str
) -> None:
    fleet.stand.environment["CELERIAC_WORKER__SHUTDOWN_GRACE"] = "1s"
    first = await fleet.start_worker(*choose(pool))
    fleet.model.hang = lambda label, number: len(fleet.stand.workers) == 1
    handle = await fleet.submit("a", turns=0)
    await fleet.until(fleet.requested("a"))
    asked = time.monotonic()
    first.signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait) == 0
    assert time.monotonic() - asked < 20  # the grace is 25 s
    assert (await handle.get()).status is TaskStatus.PENDING
    await fleet.start_worker(*choose(pool))
    assert (await handle.result(timeout=20)).content == "done a"
    assert (await handle.get()).crashes == 0
    assert await broken_invariants(fleet) == []


@pytest.mark.slow
async def test_a_time_limit_counts_over_workers_that_are_killed(fleet: Fleet) -> None:
    """A killed attempt counts to the end of its lease, 2 to 3 s later, at most."""
    fleet.model.hang = lambda label, number: True
    handle = await fleet.submit("a", turns=0, time_limit=8)
    for death in range(1, 4):
        worker = await fleet.start_worker()
        async with asyncio.timeout(30):
            while (task := await handle.get()).attempt < death:
                if task.status.is_terminal:
                    break
                await asyncio.sleep(0.05)
        if task.status.is_terminal:
            break
        await asyncio.sleep(2)
        worker.signal(signal.SIGKILL)
        await asyncio.to_thread(worker.wait)
    else:
        await fleet.start_worker()
    await fleet.all_ended(30)
    task = await handle.get()
    assert task.failure is not None
    assert (task.status, task.failure.code) == (TaskStatus.TIMED_OUT, "time_limit")
    assert task.attempt >= 2
    assert await broken_invariants(fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
async def test_celerys_revoke_with_terminate_cancels_the_run_alone(
    fleet: Fleet, pool: str
) -> None:
    worker = await fleet.start_worker(*choose(pool), slots=2)
    fleet.model.hang = lambda label, number: label == "a"
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b"):
        await fleet.submit(label, turns=1)
    await fleet.until(lambda: len(fleet.model.requests) >= 2)
    app = celery_app(fleet)
    app.control.revoke(fleet.accepted["a"], terminate=True)
    await fleet.all_ended(15)
    app.close()
    statuses = [(await fleet.record(label)).status for label in ("a", "b")]
    assert statuses == ["cancelled", "completed"]
    assert (await fleet.record("b")).attempt == 1
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


@pytest.mark.slow
async def test_a_task_revoked_while_it_waits_is_cancelled_when_it_is_taken(
    fleet: Fleet,
) -> None:
    await fleet.start_worker("--pool", "threads", slots=1)
    fleet.model.delay = lambda label, number: 2.0
    for label in ("a", "b"):
        await fleet.submit(label, turns=0)
    await fleet.until(fleet.requested("a"))
    app = celery_app(fleet)
    app.control.revoke(fleet.accepted["b"])
    await fleet.all_ended(20)
    app.close()
    assert (await fleet.record("a")).status is TaskStatus.COMPLETED
    assert (await fleet.record("b")).status is TaskStatus.CANCELLED
    assert await broken_invariants(fleet) == []


def celery_app(fleet: Fleet) -> Celery:
    """A client of the same broker, as Flower is one."""
    app = Celery("flower", set_as_current=False)
    app.conf.update(celery_settings(fleet.stand.settings()))
    return app


@pytest.mark.slow
@pytest.mark.parametrize("pool", ALL_POOLS[:3])
async def test_a_worker_killed_in_its_shutdown_is_a_crash_like_any_other(
    fleet: Fleet, pool: str
) -> None:
    first = await fleet.start_worker(*choose(pool))
    workers = fleet.stand.workers
    fleet.model.hang = lambda label, number: number == 2 and len(workers) == 1
    handle = await fleet.submit("a", turns=1)
    await fleet.until(fleet.requested("a", 2))
    first.signal(signal.SIGTERM)
    await asyncio.sleep(1)
    os.killpg(first.pid, signal.SIGKILL)
    await fleet.start_worker(*choose(pool))
    assert (await handle.result(timeout=30)).content == "done a"
    record = await handle.get()
    assert (record.attempt, record.crashes) == (2, 0)  # the first death charges nobody
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 2}
    assert await broken_invariants(fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("pool", ALL_POOLS)
async def test_a_cold_shutdown_costs_no_more_than_a_crash(
    fleet: Fleet, pool: str
) -> None:
    """It waits for nobody, not even for the grace of a warm one."""
    fleet.stand.environment["CELERIAC_WORKER__SHUTDOWN_GRACE"] = "100s"
    first = await fleet.start_worker(*choose(pool))
    workers = fleet.stand.workers
    fleet.model.hang = lambda label, number: number == 2 and len(workers) == 1
    handle = await fleet.submit("a", turns=2)
    await fleet.until(fleet.requested("a", 2))
    first.signal(signal.SIGQUIT)
    await asyncio.to_thread(first.wait, 40)
    assert "Traceback" not in first.text()
    await fleet.start_worker(*choose(pool))
    assert (await handle.result(timeout=40)).content == "done a"
    record = await handle.get()
    assert (record.attempt, record.crashes) == (2, 0)
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 2, ("a", 3): 1}
    assert await broken_invariants(fleet) == []
