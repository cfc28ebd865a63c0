"""A worker with a thousand runs aboard stands still for ten seconds and goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from orchestrator.store import TaskFilter
from orchestrator.task import TaskStatus
from tests.faults.fleet import Fleet, running_fleet
from tests.faults.invariants import broken_invariants
from tests.faults.restartable_redis import RestartableRedis

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

RUNS = 1000
STOPPED_SECONDS = 10.0
SHIPPED = {"CELERIAC_WORKER__LEASE": "10s", "CELERIAC_WORKER__HEARTBEAT": "3s"}


async def count(fleet: Fleet, status: TaskStatus) -> int:
    page = await fleet.celeriac.list(TaskFilter(status=status), limit=1000)
    return len(page.tasks)


@pytest.mark.parametrize("neighbours", [0, 1])
async def test_a_thousand_runs_outlive_ten_seconds_of_standstill(
    server: RestartableRedis, tmp_path: Path, neighbours: int
) -> None:
    """No run is lost or ends twice, nothing wedges, and the worker listens again."""
    async with running_fleet(server, tmp_path, environment=SHIPPED) as fleet:
        fleet.model.delay = lambda label, number: 8.0
        frozen = await fleet.start_worker(slots=RUNS)
        for number in range(RUNS):
            await fleet.submit(f"t{number}", turns=0)
        async with asyncio.timeout(60):
            while len(fleet.model.requests) < RUNS:
                await asyncio.sleep(0.1)
        assert await count(fleet, TaskStatus.RUNNING) == RUNS
        for _ in range(neighbours):
            await fleet.start_worker(slots=RUNS)
        os.killpg(frozen.pid, signal.SIGSTOP)
        await asyncio.sleep(STOPPED_SECONDS)
        fleet.model.delay = lambda label, number: 0.0
        os.killpg(frozen.pid, signal.SIGCONT)
        await fleet.all_ended(150)
        assert await broken_invariants(fleet) == []
        for label in fleet.accepted:
            task = await fleet.record(label)
            assert task.status is TaskStatus.COMPLETED, (label, task)
            assert task.crashes == 0, (label, task)
        assert frozen.process.poll() is None
        for worker in fleet.stand.workers[1:]:
            await asyncio.to_thread(worker.stop)
        await assert_it_listens(fleet)


async def assert_it_listens(fleet: Fleet) -> None:
    """The frozen worker takes tasks by its queue, and cancels by its control list."""
    handle = await fleet.submit("after", turns=1)
    assert (await handle.result(timeout=30)).content == "done after"
    fleet.model.hang = lambda label, number: label == "hung"
    hung = await fleet.submit("hung")
    await fleet.until(fleet.requested("hung"))
    await hung.cancel()
    await fleet.all_ended(20)
    assert (await fleet.record("hung")).status is TaskStatus.CANCELLED
