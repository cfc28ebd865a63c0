"""Reads of a task's event log, and of the cancels pushed to a worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from orchestrator import redis_keys
from orchestrator.errors import StoreUnavailable, TaskNotFound, UnreadableRecord
from orchestrator.events import TaskEvent
from orchestrator.redis_answers import pairs
from orchestrator.redis_connection import BLOCK_SLICE_SECONDS, UntypedRedis
from orchestrator.redis_pipeline import Command
from orchestrator.task import TaskStatus
from orchestrator.task_record import UNREADABLE, event_from_entry

_PUSHED_AT_ONCE = 100
_OURS: Final = "0-"
"""Begins the ids of our entries."""
_STATUSES: Final = frozenset(TaskStatus)


class LogRead(NamedTuple):
    """Some of a log."""

    events: tuple[TaskEvent, ...]
    last: int
    """The sequence of the last entry looked at."""
    goes_on: bool
    """Whether more may come."""


async def read_events(
    read: Callable[[Sequence[Command]], Awaitable[list[Any]]],
    task: tuple[str, str],
    *,
    after: int,
    limit: int,
) -> LogRead:
    """Return events beyond `after`, but for those of a kind that only others know.

    Raises:
        TaskNotFound: none of this tenant has the id.
        UnreadableRecord: another release wrote the record.
        StoreUnavailable: something else was written in place of the log.
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
    if status not in _STATUSES:
        raise UnreadableRecord("")
    events = [_event(place, fields, task) for place, fields in entries]
    return LogRead(
        tuple(event for event in events if event is not None),
        _sequence(entries[-1][0]) if entries else after,
        not TaskStatus(status).is_terminal,
    )


def _event(
    place: str, fields: Sequence[str], task: tuple[str, str]
) -> TaskEvent | None:
    """Read an entry; None of a kind that a newer release added."""
    try:
        return event_from_entry(place, pairs(fields))
    except UNREADABLE:
        if place.startswith(_OURS):
            return None
    raise StoreUnavailable(
        f"what stands in the event log of task {task[1]} was not written by us; find"
        " who writes to our keys; it is put aside with the task's next event"
    )


def _sequence(place: str) -> int:
    return int(place.removeprefix(_OURS)) - 1


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
