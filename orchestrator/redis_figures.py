"""The part of the Redis task store that reads figures; no task is changed by it."""

from __future__ import annotations

from typing import Any, Final

from orchestrator import redis_keys
from orchestrator.figures_store import QueueState
from orchestrator.metrics import Counters
from orchestrator.redis_connection import read_each, store_errors
from orchestrator.redis_task_scripts import RedisTaskScripts
from orchestrator.store_limits import OLDEST_LOOKED_AT
from orchestrator.task import TaskStatus
from orchestrator.task_record import UNREADABLE

_FACTS: Final = ("agent", "due_ms", "held")
_PROBE_SECONDS: Final = 60


class RedisFigures(RedisTaskScripts):
    """Reads counters, queue lengths and ages."""

    async def counters(self, tenant: str) -> Counters:
        with store_errors(self._address):
            fields = await self._client.hgetall(redis_keys.metrics(tenant))
        counts = {field: _whole(amount) for field, amount in fields.items()}
        return Counters({field: n for field, n in counts.items() if n is not None})

    async def unfinished(self, tenant: str) -> int:
        statuses = [status for status in TaskStatus if not status.is_terminal]
        with store_errors(self._address):
            async with self._client.pipeline(transaction=False) as pipeline:
                for status in statuses:
                    pipeline.zcard(redis_keys.listing(tenant, "status", status))
                return sum(await pipeline.execute())

    async def tenants(self) -> tuple[str, ...]:
        with store_errors(self._address):
            return tuple(sorted(await self._client.smembers(redis_keys.TENANTS)))

    async def oldest_due(self, tenant: str) -> dict[str, float]:
        pending = redis_keys.listing(tenant, "status", "pending")
        with store_errors(self._address):
            ids = await self._client.zrange(pending, 0, OLDEST_LOOKED_AT - 1)
            records = [redis_keys.record(tenant, task_id) for task_id in ids]
            clock, *facts = await read_each(
                self._client,
                [("TIME",), *(("HMGET", record, *_FACTS) for record in records)],
            )
        found = [_read(answer) for answer in facts]
        now = int(clock[0]) + int(clock[1]) / 1_000_000
        waits: dict[str, float] = {}
        for agent, due_at in filter(None, found):
            if due_at <= now:
                waits[agent] = max(waits.get(agent, 0.0), now - due_at)
        return waits

    async def queues(self) -> tuple[QueueState, ...]:
        with store_errors(self._address):
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.smembers(redis_keys.QUEUES)
                pipeline.hgetall(redis_keys.SLOTS)
                busy, slots = await pipeline.execute()
            names = sorted({*busy, *slots})
            async with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.zcard(redis_keys.rung(name))
                    pipeline.zcard(redis_keys.ready(name))
                    pipeline.zcard(redis_keys.suspects(name))
                sizes = await pipeline.execute()
        states = (
            QueueState(
                name,
                rung=sizes[3 * place],
                in_line=sizes[3 * place + 1] + sizes[3 * place + 2],
                slots=_whole(slots.get(name, "0")) or 0,
            )
            for place, name in enumerate(names)
        )
        return tuple(state for state in states if any(state[1:]))

    async def probe(self) -> None:
        with store_errors(self._address):
            await self._client.set(redis_keys.SWEPT, "1", ex=_PROBE_SECONDS)


def _whole(text: str) -> int | None:
    """A number as Redis counts; None of what something else has written."""
    try:
        return int(text)
    except UNREADABLE:
        return None


def _read(answer: Any) -> tuple[str, float] | None:
    """An agent and since when it is due; None of what waits, or is no such record."""
    if isinstance(answer, Exception):
        return None
    agent, due_ms, held = answer
    try:
        is_due = agent and due_ms and int(held or 0) <= 0
        return (agent, int(due_ms) / 1000) if is_due else None
    except UNREADABLE:
        return None
