"""Reads of a task's event log, and of the cancels pushed to a worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from orchestrator import redis_keys
from orchestrator.errors import TaskNotFound
from orchestrator.events import TaskEvent
from orchestrator.redis_answers import pairs
from orchestrator.redis_connection import BLOCK_SLICE_SECONDS, UntypedRedis
from orchestrator.redis_pipeline import Command
from orchestrator.task import TaskStatus
from orchestrator.task_record import event_from_entry

_PUSHED_AT_ONCE = 100


async def read_events(
    read: Callable[[Sequence[Command]], Awaitable[list[Any]]],
    task: tuple[str, str],
    *,
    after: int,
    limit: int,
) -> tuple[tuple[TaskEvent, ...], bool]:
    """Return events beyond `after`, and whether more may come.

    Raises:
        TaskNotFound: none of this tenant has the id.
    """
    beyond = f"(0-{last_entry(after)}"
    status, entries = await read(
        [
            ("HGET", redis_keys.record(*task), "status"),
            ("XRANGE", redis_keys.log(*task), beyond, "+", "COUNT", limit),
        ]
    )
    if status is None:
        raise TaskNotFound(task[1])
    events = tuple(event_from_entry(place, pairs(fields)) for place, fields in entries)
    return events, not TaskStatus(status).is_terminal


def last_entry(after: int) -> int:
    """The number of the stream entry of the event with sequence `after`."""
    return max(after, -1) + 1


async def take_cancel_requests(
    client: UntypedRedis, worker: str, *, wait_seconds: float
) -> tuple[tuple[str, str], ...]:
    """Take what was pushed to a worker, waiting for the first."""
    key = redis_keys.control(worker)
    for slice_seconds in _slices(wait_seconds):
        first = await client.blpop([key], timeout=slice_seconds)
        if first:
            further = await client.lpop(key, _PUSHED_AT_ONCE) or []
            return tuple(
                redis_keys.split_member(member) for member in (first[1], *further)
            )
    return ()


def _slices(wait_seconds: float) -> Iterator[float]:
    deadline = time.monotonic() + wait_seconds
    while (left := deadline - time.monotonic()) > 0:
        yield min(left, BLOCK_SLICE_SECONDS)
