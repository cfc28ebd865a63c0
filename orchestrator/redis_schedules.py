"""The part of the Redis task store that keeps schedules."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from orchestrator import redis_keys
from orchestrator.redis_connection import read_each, store_errors
from orchestrator.redis_task_scripts import RedisTaskScripts
from orchestrator.schedule import DueSchedule, Schedule
from orchestrator.task_record import UNREADABLE, instant

logger = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 500
"""Schedules whose reading takes 50 ms; then others on the loop have their turn."""
_TICKS: Final = {"id", "cron", "time_zone"}
"""The first fields of a schedule's text, on which its ticks depend."""


class RedisSchedules(RedisTaskScripts):
    """Keeps schedules by tenant and all of them by their next tick."""

    async def put_schedule(self, schedule: Schedule) -> Schedule:
        tenant = schedule.task.tenant
        with store_errors(self._address):
            seconds, _ = await self._client.time()
        next_at = schedule.tick_after(datetime.fromtimestamp(seconds, UTC))
        kept_at = await self._scripts.run(
            "put_schedule",
            [redis_keys.schedules(tenant), redis_keys.SCHEDULES],
            [
                schedule.id,
                schedule.model_dump_json(exclude={"next_at"}),
                redis_keys.member(tenant, schedule.id),
                _milliseconds(next_at),
                schedule.model_dump_json(include=_TICKS).removesuffix("}"),
            ],
        )
        return schedule.model_copy(update={"next_at": instant(kept_at)})

    async def drop_schedule(self, tenant: str, schedule_id: str) -> bool:
        keys = [redis_keys.schedules(tenant), redis_keys.SCHEDULES]
        member = redis_keys.member(tenant, schedule_id)
        dropped = await self._scripts.run("drop_schedule", keys, [schedule_id, member])
        return bool(dropped)

    async def schedules(self, tenant: str) -> tuple[Schedule, ...]:
        with store_errors(self._address):
            ids = sorted(await self._client.hkeys(redis_keys.schedules(tenant)))
        found: list[Schedule] = []
        for start in range(0, len(ids), _READ_AT_ONCE):
            found += await self._read_some(tenant, ids[start : start + _READ_AT_ONCE])
        return tuple(found)

    async def _read_some(self, tenant: str, ids: Sequence[str]) -> list[Schedule]:
        key = redis_keys.schedules(tenant)
        members = [redis_keys.member(tenant, id_) for id_ in ids]
        with store_errors(self._address):
            texts = await read_each(self._client, [("HGET", key, id_) for id_ in ids])
            ticks = await self._client.zmscore(redis_keys.SCHEDULES, members)
        found = (
            _readable(text, tick)
            for text, tick in zip(texts, ticks, strict=True)
            if text is not None
        )
        return [schedule for schedule in found if schedule is not None]

    async def due_schedules(self, *, limit: int = 100) -> tuple[DueSchedule, ...]:
        # Those that only another release can read stay due: they must hide no other,
        # nor take its place.
        found: list[DueSchedule] = []
        passed_over, are_all = 0, False
        while len(found) < limit and not are_all:
            seen, are_all, due = await self._due_beyond(passed_over, limit)
            found += due
            passed_over += seen
        return tuple(found[:limit])

    async def _due_beyond(
        self, passed_over: int, limit: int
    ) -> tuple[int, bool, tuple[DueSchedule, ...]]:
        """Look at the next that are due: how many, whether all, and the readable."""
        now, are_all, found = await self._scripts.run(
            "due_schedules", [redis_keys.SCHEDULES], [limit, passed_over]
        )
        names = [redis_keys.split_member(member) for member in found[::2]]
        with store_errors(self._address):
            texts = await read_each(
                self._client,
                [("HGET", redis_keys.schedules(tenant), id_) for tenant, id_ in names],
            )
            schedules = [
                _readable(text, float(tick))
                for text, tick in zip(texts, found[1::2], strict=True)
                if text is not None
            ]
        due = tuple(
            DueSchedule(schedule, schedule.next_at, instant(now))
            for schedule in schedules
            if schedule is not None and schedule.next_at is not None
        )
        return len(names), bool(are_all), due

    async def advance_schedule(self, due: DueSchedule, *, next_at: datetime) -> bool:
        member = redis_keys.member(due.schedule.task.tenant, due.schedule.id)
        moved = await self._scripts.run(
            "advance_schedule",
            [redis_keys.SCHEDULES],
            [member, _milliseconds(due.tick), _milliseconds(next_at)],
        )
        return bool(moved)


def _readable(answer: str | Exception, tick: float | None) -> Schedule | None:
    """A schedule of this release; one of another is left to workers of that one."""
    error = answer
    if isinstance(answer, str):
        try:
            return _schedule(answer, tick)
        except UNREADABLE as exc:
            error = exc
    logger.warning("schedule left alone", extra={"error": type(error).__name__})
    return None


def _schedule(text: str, tick: float | None) -> Schedule:
    next_at = None if tick is None else instant(str(int(tick)))
    schedule = Schedule.model_validate_json(text)
    return schedule.model_copy(update={"next_at": next_at})


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
