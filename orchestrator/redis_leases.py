"""The part of the Redis task store that gives tasks to workers and takes them back."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any, Final, NamedTuple

from conversations.json_value import dumps
from conversations.script_values import read_window
from conversations.store import WindowRead
from orchestrator import redis_keys
from orchestrator.errors import (
    LeaseLost,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnreadable,
    UnreadableRecord,
)
from orchestrator.journal_entries import journal_from_entries, start_text, take_mark
from orchestrator.redis_answers import pairs, read_doorbells
from orchestrator.redis_connection import store_errors
from orchestrator.redis_joint import SharedCall
from orchestrator.redis_scripts import Answer
from orchestrator.redis_task_scripts import (
    MOST_TENANTS,
    Arguments,
    RedisTaskScripts,
)
from orchestrator.store import (
    Claim,
    Doorbell,
    FirstStep,
    Lease,
    LeaseState,
    RefusalReason,
    Started,
)
from orchestrator.store_limits import RESEND_SECONDS, UNSERVED_SECONDS
from orchestrator.task import Task, TaskFailure
from orchestrator.task_record import (
    UNREADABLE,
    deadline_left_seconds,
    instant,
    milliseconds,
    release_event_data,
    task_from_fields,
)

logger = logging.getLogger(__name__)

_UNREAD: Final = "unread"
_CLAIM_PAUSE_SECONDS: Final = 0.25
_FENCE: Final = re.compile("[0-9]{1,15}")
_LEASES_AT_ONCE: Final = 500
"""Looked at by one script call: Redis serves others between two. Five thousand would
hold it for 50 ms."""


class _Terms(NamedTuple):
    """What the claims of a process mostly have in common."""

    worker: str
    lease_seconds: float
    serves: tuple[str, ...]
    first: FirstStep | None


class RedisLeases(RedisTaskScripts):
    """Hands out leases, renews and ends them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claim_terms: _Terms | None = None
        self._claims: dict[str, SharedCall] = {}

    async def claim(
        self,
        tenant: str,
        task_id: str,
        *,
        worker: str,
        serves: Sequence[str],
        lease_seconds: float,
        first: FirstStep | None = None,
    ) -> Claim | RefusalReason:
        if not redis_keys.may_name_a_task(tenant, task_id):
            return RefusalReason.UNKNOWN
        token = token_hex(8)
        shared = self._claims_of(
            tenant, _Terms(worker, lease_seconds, tuple(serves), _fixed(first))
        )
        try:
            verdict, *answer = await self._insist_on_claim(
                shared, [task_id, token], patience_seconds=lease_seconds
            )
        except StoreUnreadable:
            lease = await self._lease_of(tenant, task_id, worker, token)
            await self._give_back(lease, first, ())
            return RefusalReason.UNKNOWN_SCHEMA
        if verdict != "claimed":
            return RefusalReason(verdict)
        fields = pairs(answer[0])
        lease = Lease(tenant, task_id, _fence(fields.get("attempt")), worker, token)
        try:
            return _read_claim(lease, fields, answer, first)
        except (UnreadableRecord, *UNREADABLE):
            await self._give_back(lease, first, read_doorbells(answer[3]))
            return RefusalReason.UNKNOWN_SCHEMA

    async def _lease_of(
        self, tenant: str, task_id: str, worker: str, token: str
    ) -> Lease:
        """Return the lease of a claim whose answer is no text."""
        record = redis_keys.record(tenant, task_id)
        with store_errors(self._address):
            attempt = await self._scripts.read("HGET", record, "attempt")
        return Lease(tenant, task_id, _fence(attempt), worker, token)

    async def _give_back(
        self, lease: Lease, first: FirstStep | None, unrung: Sequence[Doorbell]
    ) -> None:
        """Leave a task to workers of the release that wrote what this one cannot read.

        Without a word its lease would run out, and it would be charged with a crash.
        Nobody can be given the doorbells that came with it.
        """
        logger.warning(
            "what a task holds cannot be read: not written by this release",
            extra={"task_id": lease.task_id, "attempt": lease.fence},
        )
        with suppress(LeaseLost):
            if first is not None:
                await self._write("drop_start", lease, [first.start.key])
            unrung = (
                *unrung,
                *await self.release(
                    lease,
                    running_seconds=0,
                    delay_seconds=RESEND_SECONDS,
                    reason="another release, or something else, wrote what the worker"
                    " that was asked cannot read; workers of that release go on with"
                    " it, else find who else writes to our keys",
                ),
            )
        bells = [
            text
            for bell in unrung
            for text in (redis_keys.member(bell.tenant, bell.task_id), bell.queue)
        ]
        if bells:
            await self._run("leave_to_sweep", lease.tenant, lease.task_id, bells)

    def _claims_of(self, tenant: str, terms: _Terms) -> SharedCall:
        """What the claims of a process have in common, as a rule the same for long."""
        if terms != self._claim_terms or len(self._claims) == MOST_TENANTS:
            self._claim_terms, self._claims = terms, {}
        shared = self._claims.get(tenant)
        if shared is None:
            worker, lease_seconds, serves, first = terms
            times = milliseconds(lease_seconds), milliseconds(UNSERVED_SECONDS)
            arguments = [worker, *times, *_served(serves, first)]
            shared = self._shared_call("claim", tenant, arguments)
            self._claims[tenant] = shared
        return shared

    async def _insist_on_claim(
        self, shared: SharedCall, own: Arguments, *, patience_seconds: float
    ) -> Answer:
        """Repeat a claim with its own token, which finds it if its answer was lost.

        Else its lease would run out with nobody to hold it, as after a crash. After
        `patience_seconds`, the lease's time, there is nothing left to find. What time
        does not heal, a damaged record say, is asked for once more.
        """
        give_up_at = monotonic() + patience_seconds
        refusals = 0
        while True:
            try:
                return await self._scripts.run_joint(shared, own)
            except (StoreFull, StoreReadOnly, StoreUnreadable):
                raise
            except StoreUnavailable as exc:
                refusals += not exc.may_pass
                if refusals > 1 or monotonic() + _CLAIM_PAUSE_SECONDS > give_up_at:
                    raise
            await asyncio.sleep(_CLAIM_PAUSE_SECONDS)

    async def renew(
        self, leases: Sequence[Lease], *, lease_seconds: float
    ) -> tuple[LeaseState, ...]:
        states: list[LeaseState] = []
        for start in range(0, len(leases), _LEASES_AT_ONCE):
            some = leases[start : start + _LEASES_AT_ONCE]
            states += await self._renew(some, lease_seconds)
        return tuple(states)

    async def _renew(
        self, leases: Sequence[Lease], lease_seconds: float
    ) -> Iterator[LeaseState]:
        keys = [redis_keys.LEASES]
        arguments: list[str | int] = [milliseconds(lease_seconds)]
        for lease in leases:
            keys.append(redis_keys.record(lease.tenant, lease.task_id))
            arguments += [redis_keys.member(lease.tenant, lease.task_id), lease.right]
        states = await self._scripts.run("renew", keys, arguments)
        return map(LeaseState, states)

    async def surrender(self, leases: Sequence[Lease], *, blamed: Lease | None) -> None:
        keys = [redis_keys.LEASES]
        arguments: list[str | int] = [int(blamed is not None)]
        for lease in leases:
            keys.append(redis_keys.record(lease.tenant, lease.task_id))
            member = redis_keys.member(lease.tenant, lease.task_id)
            arguments += [member, lease.right, int(lease == blamed)]
        if leases:
            await self._scripts.run("surrender", keys, arguments)

    async def bury(self, worker: str) -> int:
        keys = [redis_keys.LEASES, redis_keys.ROOT]
        cursor, ended = "0", 0
        while True:
            look: list[str | int] = [worker, cursor, _LEASES_AT_ONCE]
            cursor, found = await self._scripts.run("bury", keys, look)
            ended += int(found)
            if cursor == "0":
                return ended

    async def release(
        self,
        lease: Lease,
        *,
        running_seconds: float,
        delay_seconds: float = 0.0,
        reason: str,
        failure: TaskFailure | None = None,
    ) -> tuple[Doorbell, ...]:
        arguments: Arguments = [
            milliseconds(running_seconds),
            milliseconds(delay_seconds),
            reason,
            failure.model_dump_json() if failure else "",
            dumps(release_event_data(reason, delay_seconds, failure)),
        ]
        return read_doorbells((await self._write("release", lease, arguments))[0])


def _read_claim(
    lease: Lease,
    fields: Mapping[str, str],
    answer: Sequence[Any],
    first: FirstStep | None,
) -> Claim:
    """Read what the script tells of a claim after its verdict.

    Raises:
        UnreadableRecord, those in `UNREADABLE`: another release wrote some of it, or
            it is damaged.
    """
    task = task_from_fields(fields)
    entries = pairs(answer[1])
    is_begun = first is not None and take_mark(
        entries, first.start.key, attempt=lease.fence
    )
    journal = journal_from_entries(entries)
    window = answer[5] if task.conversation_id is not None else _UNREAD
    begun = Started(is_unknown=False, is_watched=bool(answer[4]))
    return Claim(
        task=task,
        lease=lease,
        steps=journal.steps,
        starts=journal.starts,
        decisions=journal.decisions,
        read_at=instant(fields["claimed_ms"]),
        doorbells=read_doorbells(answer[3]),
        deadline_left_seconds=deadline_left_seconds(fields),
        has_mail=bool(answer[2]),
        window=_window(task, window),
        begins_conversation=window is None,
        begun=begun if is_begun else None,
    )


def _fence(attempt: str | None) -> int:
    """The attempt of a record; 0, which no lease has, where it is lost or damaged."""
    return int(attempt) if attempt and _FENCE.fullmatch(attempt) else 0


def _fixed(first: FirstStep | None) -> FirstStep | None:
    """A first step whose agents do not change; as a rule it is itself."""
    if first is None or isinstance(first.agents, frozenset):
        return first
    return first._replace(agents=frozenset(first.agents))


def _served(serves: Sequence[str], first: FirstStep | None) -> Arguments:
    """Return the agents served, before them the first step and for how many it is."""
    if first is None:
        return ["", "", 0, len(serves), *serves]
    these = [name for name in serves if name in first.agents]
    others = [name for name in serves if name not in first.agents]
    start = start_text(first.start, attempt=1)
    return [first.start.key, start, len(these), len(serves), *these, *others]


def _window(task: Task, answer: Any) -> WindowRead | None:
    """Read what came of the conversation; what cannot be read its run will meet."""
    if answer == _UNREAD or task.conversation_id is None:
        return None
    try:
        return read_window(task.tenant, task.conversation_id, answer)
    except UNREADABLE:
        return None
