"""A task that kills its worker runs among five hundred healthy runs of one process."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.task import TaskStatus
from tests.faults.fleet import Fleet, running_fleet
from tests.faults.invariants import broken_invariants
from tests.faults.restartable_redis import RestartableRedis

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

RUNS = 500


async def keep_a_worker(fleet: Fleet) -> None:
    """Start the worker again whenever it has died, as a supervisor does."""
    while True:
        worker = await fleet.start_worker(slots=RUNS + 1)
        while worker.process.poll() is None:
            await asyncio.sleep(0.1)


async def test_five_hundred_neighbours_of_a_poison_task_complete(
    server: RestartableRedis, tmp_path: Path
) -> None:
    async with running_fleet(server, tmp_path) as fleet:
        fleet.model.delay = lambda label, number: 0.5
        for number in range(RUNS // 2):
            await fleet.submit(f"t{number}", turns=1)
        poison = await fleet.celeriac.submit("poison", {"prompt": "die"})
        for number in range(RUNS // 2, RUNS):
            await fleet.submit(f"t{number}", turns=1)
        supervisor = asyncio.create_task(keep_a_worker(fleet))
        try:
            await fleet.all_ended(200)
            async for _ in poison.events():
                pass
        finally:
            supervisor.cancel()
        task = await poison.get()
        assert task.failure is not None
        assert (task.failure.code, task.crashes) == ("crash_loop", 3)
        records = [await fleet.record(label) for label in fleet.accepted]
        ended = Counter((record.status, record.crashes) for record in records)
        assert ended == {(TaskStatus.COMPLETED, 0): RUNS}
        assert await broken_invariants(fleet) == []
