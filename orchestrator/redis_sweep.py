"""One sweep over a Redis: what is overdue, then one script for each of it.

Any number of processes may sweep; each script looks again before it changes anything.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any, Final, Protocol

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.errors import StoreUnavailable, UnreadableRecord
from orchestrator.redis_alarm import RedisAlarm
from orchestrator.redis_answers import read_doorbells
from orchestrator.redis_connection import (
    UntypedRedis,
    address_of,
    read_each,
    store_errors,
)
from orchestrator.redis_listing import listing_keys
from orchestrator.redis_scripts import RedisScripts, ScriptCall
from orchestrator.redis_task_scripts import NOBODY
from orchestrator.store import SweepReport
from orchestrator.task import Task, TaskStatus
from orchestrator.task_record import LAPSED_NOTE, milliseconds, task_from_fields

logger = logging.getLogger(__name__)

_SWEPT_SECONDS: Final = 60
"""The write only proves that Redis takes writes; its time says when."""


_READ_AT_ONCE: Final = 50
"""Of the records of ended tasks; each may hold an input of a megabyte."""
_FORGOTTEN_BY: Final = ("spec", "status", "attempt", "created_ms")
"""What tells the listings of a task; its result may be the largest part of a record."""
_FORGETTING_WORKERS: Final = ScriptCall(
    "forget_workers",
    (redis_keys.WORKERS, redis_keys.WORKER_SLOTS, redis_keys.SLOTS),
    (),
)
"""Before the lines are refilled, whose window hangs on the live slots."""


class TaskCall(Protocol):
    """Makes the call of a task script."""

    def __call__(
        self, name: str, tenant: str, task_id: str, arguments: Sequence[str | int] = ()
    ) -> ScriptCall: ...


class RedisSweep:
    """Takes back leases, ends what is past its limits, rings, and forgets."""

    def __init__(
        self,
        client: Redis,
        scripts: RedisScripts,
        *,
        call: TaskCall,
        max_crashes: int,
        delta_ttl_seconds: float,
        renewal_seconds: float = 0.0,
    ) -> None:
        """Make a sweep.

        Args:
            client: The Redis.
            scripts: The task scripts.
            call: Makes the call of one.
            max_crashes: Crashes after which a task is failed.
            delta_ttl_seconds: How long after a task's end its log holds token deltas.
            renewal_seconds: When no sweep was answered for so long, Redis may have
                been away for all; holders then get as long to renew their leases
                before expired ones are taken back.
        """
        self._renewal_seconds = renewal_seconds
        self._answered_at = float("-inf")
        self._takes_back_from = float("-inf")
        self._client: UntypedRedis = client
        self._scripts = scripts
        self._call = call
        self._max_crashes = max_crashes
        self._alarm = RedisAlarm(client)
        self._delta_ttl_ms = milliseconds(delta_ttl_seconds)
        self._history: tuple[str, int] = ("", 0)
        """The epoch and count of sweeps that this process saw last."""

    async def run(self, *, limit: int) -> SweepReport:
        try:
            report = await self._run(limit)
        except StoreUnavailable:
            self._answered_at = float("-inf")
            raise
        return report

    async def _run(self, limit: int) -> SweepReport:
        alarms = await self._alarm.look()
        expired, due, followed, more = await self._tidy(limit)
        if not await self._may_take_back():
            expired = []
        calls = [
            self._call("recover", *redis_keys.split_member(member), [self._max_crashes])
            for member in expired
        ]
        calls += [
            self._call("ring", *redis_keys.split_member(member), [LAPSED_NOTE])
            for member in due
        ]
        calls += [
            self._call("wake", *redis_keys.split_member(member)) for member in followed
        ]
        calls.append(_FORGETTING_WORKERS)
        calls.append(self._call("refill", NOBODY, NOBODY))
        seen: list[str | int] = [*self._history, token_hex(8)]
        calls.append(self._call("history", NOBODY, NOBODY, seen))
        *answered, refilled, history = await self._scripts.run_each(calls)
        more = (
            more
            or _is_worth_more(answered[: len(expired)], limit)
            or _is_worth_more(answered[len(expired) : len(expired) + len(due)], limit)
        )
        if history is not None:
            self._history = history[2], int(history[3])
        answers = [answer for answer in answered if answer is not None]
        if refilled is not None:
            *answer, problem = refilled
            answers.append(answer)
            if problem:
                logger.error("queue not swept", extra={"error": problem})
        outcomes = Counter(outcome for outcome, _ in answers)
        more = more or outcomes["woken"] > 0
        return SweepReport(
            doorbells=read_doorbells([bell for _, bells in answers for bell in bells]),
            recovered=outcomes["recovered"],
            ended=outcomes["ended"],
            rung_again=outcomes["rung_again"],
            more=more,
            went_back=history is not None and history[0] == "went_back",
            alarms=alarms,
        )

    async def _tidy(self, limit: int) -> tuple[list[str], list[str], list[str], bool]:
        """Forget ended tasks and token deltas.

        Return what else is overdue (leases, tasks to look at, ended ones that others
        waited for), and whether there may be more to forget.
        """
        keys = [
            redis_keys.LEASES,
            redis_keys.DUE,
            redis_keys.ENDED,
            redis_keys.DELTAS,
            redis_keys.FOLLOWED,
        ]
        waits = [0, 0, 0, self._delta_ttl_ms, 0]
        expired, due, ended, wordy, followed = await self._scripts.run(
            "overdue", keys, [limit, *waits]
        )
        forgotten = await self._forget(ended)
        dropped = await self._scripts.run_each(
            [self._dropping(member) for member in wordy]
        )
        more = _is_worth_more(forgotten, limit) or _is_worth_more(dropped, limit)
        return expired, due, followed, more

    def _dropping(self, member: str) -> ScriptCall:
        keys = [redis_keys.log(*redis_keys.split_member(member)), redis_keys.DELTAS]
        return ScriptCall("drop_deltas", keys, [member, self._delta_ttl_ms])

    async def _may_take_back(self) -> bool:
        """Whether an expired lease means that its holder is gone.

        Not while Redis refuses writes, nor just after: then nobody could renew.
        """
        if not self._renewal_seconds:
            return True
        with store_errors(address_of(self._client)):
            await self._client.set(redis_keys.SWEPT, "1", ex=_SWEPT_SECONDS)
        now = monotonic()
        if now - self._answered_at > self._renewal_seconds:
            self._takes_back_from = now + self._renewal_seconds
        self._answered_at = now
        return now >= self._takes_back_from

    async def forget_now(self, task: Task) -> None:
        """Remove an ended task before its time."""
        call = _forgetting(task.tenant, task.id, task, ahead=True)
        await self._scripts.run(call.name, call.keys, call.arguments)

    async def _forget(self, members: Sequence[str]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(members), _READ_AT_ONCE):
            answers += await self._forget_some(members[start : start + _READ_AT_ONCE])
        return answers

    async def _forget_some(self, members: Sequence[str]) -> list[Any]:
        names = [redis_keys.split_member(member) for member in members]
        with store_errors(address_of(self._client)):
            records = await read_each(
                self._client,
                [("HMGET", redis_keys.record(*name), *_FORGOTTEN_BY) for name in names],
            )
        return await self._scripts.run_each(
            [
                _forgetting(*name, _read(values))
                for name, values in zip(names, records, strict=True)
            ]
        )


def _is_worth_more(answers: Sequence[Any], limit: int) -> bool:
    """Whether a sweep found as much of a kind as it does, and had most of it to do.

    Where others are at the same they go on: side by side each would do all of it. Mere
    looks at messages that are out have time; a busy fleet has no end of them.
    """
    done = [answer[0] != "nothing" for answer in answers if answer is not None]
    return len(answers) == limit and 2 * sum(done) > len(done)


def _read(values: Sequence[str | None] | Exception) -> Task | None:
    if isinstance(values, Exception):
        return None
    named = zip(_FORGOTTEN_BY, values, strict=True)
    # Listings of another release's record are left to readers, who tidy them.
    with suppress(UnreadableRecord):
        return task_from_fields({name: v for name, v in named if v is not None})
    return None


def _forgetting(
    tenant: str, task_id: str, task: Task | None, *, ahead: bool = False
) -> ScriptCall:
    listings = listing_keys(task) if task else [redis_keys.listing(tenant)]
    statuses = (status for status in TaskStatus if status.is_terminal)
    return ScriptCall(
        "forget",
        [
            *redis_keys.task_keys(tenant, task_id),
            redis_keys.ENDED,
            redis_keys.WEBHOOKS,
            redis_keys.DELTAS,
            *listings,
            *(redis_keys.listing(tenant, "status", status) for status in statuses),
        ],
        [
            redis_keys.member(tenant, task_id),
            task_id,
            "1" if ahead else "",
            *(task.after if task else ()),
        ],
    )
