"""What the application wires together."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.http.app import create_app
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.schedule import DueSchedule
from orchestrator.settings import load_settings
from orchestrator.store import SweepReport
from workers.in_process import ExecutorQueue, _in_memory_parts


class WatchedStore(InMemoryTaskStore):
    """Notes a sweep, and whether ticks that are due were asked for after it."""

    def __init__(self) -> None:
        super().__init__()
        self.swept = asyncio.Event()
        self.submits_ticks = False

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        # Nothing is awaited between here and the question for ticks.
        self.swept.set()
        return SweepReport()

    async def due_schedules(self, *, limit: int = 100) -> tuple[DueSchedule, ...]:
        self.submits_ticks = True
        return ()


@pytest.mark.parametrize("enabled", [True, False])
async def test_ticks_are_submitted_only_where_the_agent_manager_is_on(
    enabled: bool,
) -> None:
    settings = load_settings(services={"agent_manager": {"enabled": enabled}})
    queue = ExecutorQueue(asyncio.get_running_loop(), slots=1)
    store = WatchedStore()
    parts = replace(_in_memory_parts(settings, queue), store=store)
    app = create_app(settings, parts=parts)
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(store.swept.wait(), 5)
        assert store.submits_ticks is enabled
