"""The safety net survives whatever happens to one sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Doorbell, SweepReport
from orchestrator.sweeper import Sweeper

BELL = Doorbell("default", "task-1", "a", "celeriac", 4)


class FlakyStore(InMemoryTaskStore):
    """Fails twice, foreseen and not, then has something to ring for."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = [StoreUnavailable("away"), KeyError("bug")]

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
    assert "sweep missed: away" in messages
    assert "sweep failed" in messages
