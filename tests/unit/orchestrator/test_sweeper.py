"""The safety net survives whatever happens to one sweep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest

from orchestrator.errors import QueueUnavailable, StoreUnavailable
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.schedule import DueSchedule, Schedule
from orchestrator.store import Doorbell, SweepReport, TaskFilter
from orchestrator.sweeper import Sweeper
from orchestrator.task import Task

BELL = Doorbell("default", "task-1", "a", "celeriac", 4)


class FlakyStore(InMemoryTaskStore):
    """Fails, foreseen and not, then has something to ring for."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = [
            StoreUnavailable("away"),
            StoreUnavailable("away"),
            StoreUnavailable("full"),
            KeyError("bug"),
        ]

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        if self.failures:
            raise self.failures.pop(0)
        return SweepReport(doorbells=(BELL,), recovered=1)


class Queue:
    def __init__(self) -> None:
        self.rung = asyncio.Event()

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        assert tuple(doorbells) == (BELL,)
        self.rung.set()

    async def aclose(self) -> None: ...


async def test_a_failed_sweep_is_logged_and_the_next_one_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = Queue()
    sweeper = Sweeper(FlakyStore(), queue, interval_seconds=0.01)
    running = asyncio.create_task(sweeper.run())
    await asyncio.wait_for(queue.rung.wait(), 5)
    running.cancel()
    messages = [record.getMessage() for record in caplog.records]
    missed = [message for message in messages if message.startswith("sweep missed")]
    assert missed == ["sweep missed: away", "sweep missed: full"]
    assert "sweep failed" in messages


class FullStore(InMemoryTaskStore):
    """Has more to do than a sweep does, for so many sweeps."""

    def __init__(self, sweeps: int) -> None:
        super().__init__()
        self.left = sweeps
        self.is_empty = asyncio.Event()

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        self.left -= 1
        if self.left == 0:
            self.is_empty.set()
        return SweepReport(more=self.left > 0)


async def test_a_sweep_that_left_something_is_followed_by_another_at_once() -> None:
    """Else a busy store would forget less than ends."""
    store = FullStore(10)
    sweeper = Sweeper(store, Queue(), interval_seconds=3600)
    running = asyncio.create_task(sweeper.run())
    await asyncio.wait_for(store.is_empty.wait(), 10)
    running.cancel()
    assert store.left == 0


class HalfStore(InMemoryTaskStore):
    """Sweeps, but cannot say which schedules are due."""

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        return SweepReport(doorbells=(BELL,))

    async def due_schedules(self, *, limit: int = 100) -> tuple[DueSchedule, ...]:
        raise StoreUnavailable("away")


async def test_what_a_sweep_found_is_rung_though_the_schedules_fail() -> None:
    """It counts as rung in the store: nobody would ring again for ten seconds."""
    queue = Queue()
    with pytest.raises(StoreUnavailable):
        await Sweeper(HalfStore(), queue).sweep()
    assert queue.rung.is_set()


class Mute(Queue):
    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        raise QueueUnavailable("away")


class RingingStore(InMemoryTaskStore):
    """Has something to ring for at each sweep."""

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        return SweepReport(doorbells=(BELL,))


async def test_schedules_are_submitted_though_the_broker_is_away() -> None:
    store = RingingStore()
    schedule = Schedule(id="s", cron="* * * * * *", task=Task(agent_name="a"))
    await store.put_schedule(schedule)
    deadline = time.monotonic() + 10
    while not (await store.list("default", TaskFilter())).tasks:
        assert time.monotonic() < deadline
        with suppress(QueueUnavailable):
            await Sweeper(store, Mute()).sweep()
        await asyncio.sleep(0.05)


async def test_one_that_takes_no_tasks_asks_for_no_schedules_and_rings() -> None:
    queue = Queue()
    await Sweeper(HalfStore(), queue, takes_tasks=False).sweep()
    assert queue.rung.is_set()
