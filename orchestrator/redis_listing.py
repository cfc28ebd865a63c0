"""Which listings a task stands in, and how a page of one is read.

A listing orders task ids by their place of acceptance. Ids of records that are gone
are skipped and removed when a reader meets them.
"""

from __future__ import annotations

import logging

from orchestrator import redis_keys
from orchestrator.errors import UnreadableRecord
from orchestrator.redis_connection import UntypedRedis
from orchestrator.store import TaskFilter, TaskPage
from orchestrator.task import Task
from orchestrator.task_record import matches, read_cursor, task_from_fields

logger = logging.getLogger(__name__)

_READ_AHEAD = 100
"""Ids looked at in one round trip."""


def listing_keys(task: Task) -> list[str]:
    """The listings of a task but the one by status, which moves."""
    keys = [
        redis_keys.listing(task.tenant),
        redis_keys.listing(task.tenant, "agent", task.agent_name),
    ]
    if task.conversation_id is not None:
        keys.append(
            redis_keys.listing(task.tenant, "conversation", task.conversation_id)
        )
    tags = dict.fromkeys(task.tags)
    return keys + [redis_keys.listing(task.tenant, "tag", tag) for tag in tags]


async def list_tasks(
    client: UntypedRedis,
    tenant: str,
    task_filter: TaskFilter,
    *,
    limit: int,
    cursor: str | None,
) -> TaskPage:
    """Read one page from the shortest listing that holds every match."""
    key = await _shortest(client, _candidates(tenant, task_filter))
    place = read_cursor(cursor)
    below = "+inf" if place is None else f"({place}"
    found: list[tuple[int, Task]] = []
    while len(found) <= limit:
        places = await client.zrevrangebyscore(
            key, below, "-inf", start=0, num=_READ_AHEAD, withscores=True
        )
        if not places:
            break
        below = f"({int(places[-1][1])}"
        tasks = await _records(client, tenant, key, [task_id for task_id, _ in places])
        found += [
            (int(ordinal), task)
            for (_, ordinal), task in zip(places, tasks, strict=True)
            if task and matches(task, task_filter)
        ]
    page = found[:limit]
    more = len(found) > limit and page
    return TaskPage(
        tasks=tuple(task for _, task in page),
        next_cursor=str(page[-1][0]) if more else None,
    )


def _candidates(tenant: str, task_filter: TaskFilter) -> list[str]:
    wanted = {
        "status": task_filter.status,
        "agent": task_filter.agent_name,
        "conversation": task_filter.conversation_id,
        "tag": task_filter.tag,
    }
    keys = [
        redis_keys.listing(tenant, kind, value)
        for kind, value in wanted.items()
        if value is not None
    ]
    return keys or [redis_keys.listing(tenant)]


async def _shortest(client: UntypedRedis, keys: list[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    async with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.zcard(key)
        sizes = await pipeline.execute()
    return min(zip(sizes, keys, strict=True))[1]


async def _records(
    client: UntypedRedis, tenant: str, key: str, task_ids: list[str]
) -> list[Task | None]:
    async with client.pipeline(transaction=False) as pipeline:
        for task_id in task_ids:
            pipeline.hgetall(redis_keys.record(tenant, task_id))
        records = await pipeline.execute()
    gone = [
        task_id for task_id, fields in zip(task_ids, records, strict=True) if not fields
    ]
    if gone:
        await client.zrem(key, *gone)
    return [_readable(fields) if fields else None for fields in records]


def _readable(fields: dict[str, str]) -> Task | None:
    """A task of this release; one of another must not spoil a page."""
    try:
        return task_from_fields(fields)
    except UnreadableRecord as exc:
        logger.warning("task left out of a listing", extra={"error": str(exc)})
        return None
