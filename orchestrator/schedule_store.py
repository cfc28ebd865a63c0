"""The part of a task store's contract that keeps schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from orchestrator.schedule import DueSchedule, Schedule


class ScheduleStore(Protocol):
    """Keeps schedules and tells which are due; the scheduler submits their tasks."""

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        """Keep a schedule, over an earlier one of its id, from its next tick on.

        A tick of the earlier one that has come and was not submitted yet stays due, if
        the new one has the same ticks: who says the same again loses none.
        """
        ...

    async def drop_schedule(self, tenant: str, schedule_id: str) -> bool:
        """End a schedule; tell whether there was one."""
        ...

    async def schedules(self, tenant: str) -> tuple[Schedule, ...]:
        """Return the tenant's schedules by id."""
        ...

    async def due_schedules(self, *, limit: int = 100) -> tuple[DueSchedule, ...]:
        """Return schedules of all tenants whose tick has come; changes nothing."""
        ...

    async def advance_schedule(self, due: DueSchedule, *, next_at: datetime) -> bool:
        """Move a schedule on from a tick; False when another was faster."""
        ...
