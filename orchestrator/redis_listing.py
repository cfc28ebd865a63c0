"""Which listings a task stands in, and how a page of one is read.

A listing orders task ids by their place of acceptance. Ids of records that are gone
are skipped and removed when a reader meets them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from orchestrator import redis_keys
from orchestrator.errors import UnreadableRecord
from orchestrator.redis_connection import UntypedRedis, read_each
from orchestrator.store import TaskFilter, TaskPage
from orchestrator.task import Task
from orchestrator.task_record import matches, read_cursor, task_from_fields

logger = logging.getLogger(__name__)

_LEFT_OUT: Final = "task left out of a listing"
_READ_AHEAD = 100
"""Ids looked at in one round trip, at most."""
_READ_FIRST = 10
"""Ids looked at before anything is known of the size of records."""
_MOST_BYTES = 16 * 1024 * 1024
"""Of the records of one page, which then ends before its limit."""
_LEAD_MS = 3_600_000
"""How far places of acceptance may run ahead of the clock, beside one for each task: a
place is unique, so more than a thousand tasks a second outrun it."""


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
    """Read one page from the shortest listing that holds every match.

    Only ids that stand in the other listings too are read.
    """
    key, *others = await _by_size(client, _candidates(tenant, task_filter))
    oldest = _oldest(task_filter)
    below = await _newest(client, tenant, task_filter, cursor)
    found: list[tuple[int, Task]] = []
    sizes = _Sizes()
    while len(found) <= limit and not (found and sizes.are_enough):
        places = await client.zrevrangebyscore(
            key, below, oldest, start=0, num=sizes.next_records, withscores=True
        )
        if not places:
            break
        below = f"({int(places[-1][1])}"
        places = await _in_all(client, others, places)
        ids = [task_id for task_id, _ in places]
        tasks = await _records(client, tenant, key, ids)
        sizes.read([size for _, size in tasks])
        for (_, ordinal), (task, size) in zip(places, tasks, strict=True):
            if task and matches(task, task_filter):
                found.append((int(ordinal), task))
                sizes.found += size
    page = found[:limit]
    more = page and (len(found) > limit or sizes.are_enough)
    return TaskPage(
        tasks=tuple(task for _, task in page),
        next_cursor=str(page[-1][0]) if more else None,
    )


class _Sizes:
    """What was found for a page, in bytes, and how many records to read at once."""

    def __init__(self) -> None:
        self.found = 0
        self.next_records = _READ_FIRST

    def read(self, sizes: Sequence[int]) -> None:
        mean = sum(sizes) // len(sizes) if sizes else 0
        self.next_records = max(1, min(_READ_AHEAD, _MOST_BYTES // (mean + 1)))

    @property
    def are_enough(self) -> bool:
        return self.found >= _MOST_BYTES


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


def _oldest(task_filter: TaskFilter) -> str:
    """A place that no match is below: none is lower than its instant."""
    after = task_filter.created_after
    return "-inf" if after is None else str(int(after.timestamp() * 1000))


async def _newest(
    client: UntypedRedis, tenant: str, task_filter: TaskFilter, cursor: str | None
) -> str:
    """A place that no match of this page is above."""
    place = read_cursor(cursor)
    if place is not None:
        return f"({place}"
    if task_filter.created_before is None:
        return "+inf"
    kept = await client.zcard(redis_keys.listing(tenant))
    before = int(task_filter.created_before.timestamp() * 1000)
    return str(before + kept + _LEAD_MS)


async def _by_size(client: UntypedRedis, keys: list[str]) -> list[str]:
    if len(keys) == 1:
        return keys
    async with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.zcard(key)
        sizes = await pipeline.execute()
    return [key for _, key in sorted(zip(sizes, keys, strict=True))]


async def _in_all(
    client: UntypedRedis, keys: list[str], places: list[tuple[str, float]]
) -> list[tuple[str, float]]:
    """The places whose ids stand in every listing."""
    for key in keys:
        if places:
            scores = await client.zmscore(key, [task_id for task_id, _ in places])
            places = [
                place
                for place, score in zip(places, scores, strict=True)
                if score is not None
            ]
    return places


async def _records(
    client: UntypedRedis, tenant: str, key: str, task_ids: list[str]
) -> list[tuple[Task | None, int]]:
    """The tasks, with the sizes of their records."""
    if not task_ids:
        return []
    records = [redis_keys.record(tenant, task_id) for task_id in task_ids]
    answers = await read_each(client, [("HGETALL", record) for record in records])
    kept = [None if _is_gone(answer) else answer for answer in answers]
    gone = [
        task_id
        for task_id, answer in zip(task_ids, kept, strict=True)
        if answer is None
    ]
    if gone:
        await client.zrem(key, *gone)
    return [_readable(answer) if answer else (None, 0) for answer in kept]


def _is_gone(answer: dict[str, str] | Exception) -> bool:
    """Whether there is no record; what is of another kind is none."""
    if isinstance(answer, Exception):
        return not isinstance(answer, UnicodeError)
    return not answer


def _readable(answer: dict[str, str] | UnicodeError) -> tuple[Task | None, int]:
    """A task and its size; one that cannot be read must not spoil a page."""
    if isinstance(answer, UnicodeError):
        logger.warning(_LEFT_OUT, extra={"error": str(answer)})
        return None, 0
    size = sum(map(len, answer.values()))
    try:
        return task_from_fields(answer), size
    except UnreadableRecord as exc:
        logger.warning(_LEFT_OUT, extra={"error": str(exc)})
        return None, size
