"""The part of the in-memory task store that keeps schedules."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime

from orchestrator.memory_directory import utc_now
from orchestrator.schedule import DueSchedule, Schedule


class MemorySchedules:
    """Keeps schedules of one process."""

    _lock: AbstractContextManager[object]

    def __init__(self) -> None:
        self._schedules: dict[tuple[str, str], Schedule] = {}

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        next_at = schedule.tick_after(utc_now())
        key = schedule.task.tenant, schedule.id
        with self._lock:
            earlier = self._schedules.get(key)
            if earlier and earlier.next_at and earlier.has_ticks_of(schedule):
                next_at = min(next_at, earlier.next_at)
            kept = schedule.model_copy(update={"next_at": next_at}, deep=True)
            self._schedules[key] = kept
        return kept

    async def drop_schedule(self, tenant: str, schedule_id: str) -> bool:
        with self._lock:
            return self._schedules.pop((tenant, schedule_id), None) is not None

    async def schedules(self, tenant: str) -> tuple[Schedule, ...]:
        with self._lock:
            return tuple(
                schedule.model_copy(deep=True)
                for (of, _), schedule in sorted(self._schedules.items())
                if of == tenant
            )

    async def due_schedules(self, *, limit: int = 100) -> tuple[DueSchedule, ...]:
        now = utc_now()
        with self._lock:
            due = [
                DueSchedule(schedule.model_copy(deep=True), schedule.next_at, now)
                for schedule in self._schedules.values()
                if schedule.next_at is not None and schedule.next_at <= now
            ]
        return tuple(sorted(due, key=lambda each: each.tick)[:limit])

    async def advance_schedule(self, due: DueSchedule, *, next_at: datetime) -> bool:
        with self._lock:
            key = due.schedule.task.tenant, due.schedule.id
            kept = self._schedules.get(key)
            if kept is None or kept.next_at != due.tick:
                return False
            self._schedules[key] = kept.model_copy(update={"next_at": next_at})
            return True
