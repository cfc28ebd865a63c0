"""A4, B4, D4 with many runs in one process: frozen, starved, without its Redis."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from orchestrator import TaskStatus
from orchestrator.errors import StoreUnavailable
from tests.faults.fleet import Fleet
from tests.faults.invariants import broken_invariants

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

SLOTS = 1000
BATCH = 50


async def submit_many(fleet: Fleet, count: int, *, turns: int) -> None:
    for start in range(0, count, BATCH):
        await asyncio.gather(
            *(
                fleet.submit(f"t{number}", turns=turns)
                for number in range(start, start + BATCH)
            )
        )


async def statuses(fleet: Fleet) -> Counter[TaskStatus]:
    return Counter([(await fleet.record(label)).status for label in fleet.accepted])


async def test_a_thousand_runs_frozen_beyond_their_lease_are_fenced(
    fleet: Fleet,
) -> None:
    first = await fleet.start_worker(slots=SLOTS)
    fleet.model.delay = lambda label, number: 5.0
    await submit_many(fleet, SLOTS, turns=1)
    await fleet.until(lambda: len(fleet.model.requests) >= SLOTS, 120)
    os.killpg(first.pid, signal.SIGSTOP)
    second = await fleet.start_worker(slots=SLOTS)

    async def moved() -> int:
        attempts = [(await fleet.record(label)).attempt for label in fleet.accepted]
        return sum(attempt > 1 for attempt in attempts)

    async with asyncio.timeout(90):
        while await moved() < SLOTS // 2:
            await asyncio.sleep(0.5)
    os.killpg(first.pid, signal.SIGCONT)
    await fleet.all_ended(180)
    assert await statuses(fleet) == {TaskStatus.COMPLETED: SLOTS}
    assert await broken_invariants(fleet) == []
    assert [first.process.poll(), second.process.poll()] == [None, None]
    again = await fleet.submit("afterwards")
    assert (await again.result(timeout=30)).content == "done afterwards"


async def test_a_worker_with_a_tenth_of_a_processor_keeps_its_leases(
    fleet: Fleet,
) -> None:
    """Halted for most of each moment, which takes no processor from anybody else."""
    fleet.stand.environment |= {
        "CELERIAC_WORKER__LEASE": "10s",
        "CELERIAC_WORKER__HEARTBEAT": "3s",
    }
    worker = await fleet.start_worker(slots=20)
    await fleet.start_worker(slots=1)
    fleet.model.delay = lambda label, number: 1.0

    async def starve() -> None:
        try:
            while True:
                os.killpg(worker.pid, signal.SIGSTOP)
                await asyncio.sleep(0.18)
                os.killpg(worker.pid, signal.SIGCONT)
                await asyncio.sleep(0.02)
        finally:
            os.killpg(worker.pid, signal.SIGCONT)

    starving = asyncio.create_task(starve())
    try:
        await submit_many(fleet, BATCH, turns=3)
        await fleet.all_ended(240)
    finally:
        starving.cancel()
        await asyncio.gather(starving, return_exceptions=True)
    attempts = [(await fleet.record(label)).attempt for label in fleet.accepted]
    assert attempts == [1] * BATCH
    assert await broken_invariants(fleet) == []


async def test_a_redis_that_sleeps_for_a_minute_costs_no_lease_and_no_step(
    fleet: Fleet,
) -> None:
    """B4: nobody is told late, and nobody rushes in when it wakes."""
    worker = await fleet.start_worker(slots=20)
    fleet.model.delay = lambda label, number: 2.0
    for number in range(20):
        await fleet.submit(f"t{number}", turns=2)
    await fleet.until(lambda: len(fleet.model.requests) >= 20, 30)
    with fleet.server.stopped():
        async with asyncio.timeout(90):
            ends_at = asyncio.get_running_loop().time() + 60
            while asyncio.get_running_loop().time() < ends_at:
                with pytest.raises(StoreUnavailable):
                    await fleet.submit("refused")
                await asyncio.sleep(1)
    await fleet.all_ended(60)
    attempts = [(await fleet.record(label)).attempt for label in fleet.accepted]
    assert attempts == [1] * 20
    assert set(fleet.model.counts().values()) == {1}
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None
