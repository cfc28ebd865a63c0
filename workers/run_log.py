"""Where a run writes its steps and events: the task's store, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from secrets import token_hex
from time import monotonic
from typing import Protocol

from pydantic import JsonValue

from conversations.errors import RedactionFailed
from conversations.json_value import dumps
from orchestrator.budget import Spent
from orchestrator.dues import Admission, Dues, Needs
from orchestrator.events import NewEvent, TaskEvent
from orchestrator.gate import Wait
from orchestrator.journal import Step, StepStart, Unfinished
from orchestrator.store import (
    Doorbell,
    Ending,
    LastStep,
    Lease,
    Started,
    TaskStore,
)
from orchestrator.task import AwaitedCall, Task, TaskFailure
from workers.begun_ahead import BegunAhead
from workers.insistence import Insistence
from workers.none_yet import NONE
from workers.run_steps import custom_step

NO_MAIL_SECONDS = 0.25
"""So long an inbox that was found empty is not looked into again; what comes meanwhile
is taken before the completion after the next one."""
MOST_KEPT_BYTES = 4 * 1024 * 1024
"""Of what is kept for a later attempt, as of a result; that one reads more again."""

Ring = Callable[[tuple[Doorbell, ...]], Awaitable[None]]
"""Rings for tasks; a broker that is away is no error."""


class RunLog(Protocol):
    """Takes what a run has done."""

    async def record(
        self,
        step: Step,
        events: Sequence[NewEvent],
        *,
        dues: Dues | None = None,
        then: StepStart | None = None,
        may_wait: bool = False,
    ) -> Step:
        """Keep a finished step and its events, and pay dues; return what is kept.

        Along with it, the completion that follows at once is marked as begun: its
        `start` costs nothing then. One that does not follow is to be taken back.
        A step that `may_wait` and owes nothing is kept with what the run writes next,
        be it its end: until then nobody's code but ours may run.
        """
        ...

    async def start(self, start: StepStart) -> Started:
        """Mark a step as begun; tell whether a vanished attempt had begun it.

        And whether somebody follows the run, now or earlier in this attempt.
        """
        ...

    async def admit(self, start: StepStart, needs: Needs) -> Admission | None:
        """Let a completion begin and mark it; its `start` costs nothing then.

        None where it is not marked here: its needs are another's to meet. Who asks
        repeats it while the store refuses.

        Raises:
            StoreUnavailable: nothing is known.
        """
        ...

    async def drop_start(self, key: str) -> None:
        """Remove the mark of a step that is known to have had no effect."""
        ...

    async def take(self, key: str) -> Step | None:
        """Keep the messages sent to the run as a step; None when there are none."""
        ...

    async def emit(
        self, events: Sequence[NewEvent], *, unfinished: Unfinished | None = None
    ) -> None:
        """Tell viewers, and keep what a completion has said so far."""
        ...

    @property
    def is_watched(self) -> bool:
        """Whether somebody is known to read texts in pieces."""

    async def events(self, after: int) -> tuple[TaskEvent, ...]:
        """Return some of what viewers were told beyond a number; empty at the end."""
        ...


class StoreRunLog:
    """Writes under a lease; a stale run gets `LeaseLost` from every write.

    A run waits here while the store refuses: its finished step is kept until then. Its
    end is written here too, with a last step that was allowed to wait for it.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        lease: Lease,
        insist: Insistence,
        ring: Ring,
        task: Task | None = None,
        has_mail: bool = True,
    ) -> None:
        """Write for the holder of a lease.

        Args:
            store: Takes what is written.
            lease: Names the run.
            insist: Asks the store again.
            ring: Rings for tasks that a write makes ready.
            task: The run's; whoever asked for its stream watches from the start.
            has_mail: Whether messages to the run may wait.
        """
        self._store = store
        self._lease = lease
        self._insist = insist
        self._ring = ring
        self._note_mail(has_mail=has_mail)
        self._is_watched = task is not None and task.parameters.get("stream") is True
        self._in_conversation = task is not None and task.conversation_id is not None
        self._ahead = BegunAhead(partial(store.drop_start, lease))
        self._last: LastStep | None = None
        """A step that waits for what is written next."""
        self._for_later: tuple[str, JsonValue] | None = None
        """What a later attempt needs to know, and this one's end does not."""
        self._cut_off: frozenset[str] = NONE
        """Steps that ended while they were marked: whoever marks waits, then begins."""

    @property
    def is_watched(self) -> bool:
        return self._is_watched

    def keep_for_later(self, key: str, known: JsonValue) -> None:
        """Have a step recorded where the attempt ends before the task.

        Its outcome is JSON text, in which what is known may be deeper than a value.
        """
        self._for_later = key, known

    def begun(self, key: str, started: Started) -> None:
        """Note that a completion was marked with the claim; it follows at once."""
        self._ahead.expect(key)
        self._ahead.begin(started)

    def _note_mail(self, *, has_mail: bool) -> None:
        self._no_mail_until = 0.0 if has_mail else monotonic() + NO_MAIL_SECONDS

    async def record(
        self,
        step: Step,
        events: Sequence[NewEvent],
        *,
        dues: Dues | None = None,
        then: StepStart | None = None,
        may_wait: bool = False,
    ) -> Step:
        if self._last is not None:
            await self._record_last()
        if may_wait and (dues is None or dues.are_none):
            self._last = LastStep(step, tuple(events))
            return step
        return await self._record(step, events, dues=dues, then=then)

    async def _record_last(self) -> None:
        """Record the step that waits: it is not the last one after all."""
        last, self._last = self._last, None
        if last is None:
            return
        try:
            await self._record(*last)
        except asyncio.CancelledError:
            self._last = last  # a run that is stopped has its end to go with
            raise

    async def _record_what_waits(self) -> None:
        """Record what another attempt goes on from."""
        if self._last is not None:
            await self._record_last()
        if self._for_later is None:
            return
        key, known = self._for_later
        text = dumps(known)
        if len(text.encode()) <= MOST_KEPT_BYTES:
            step = custom_step(key, key, text, attempt=self._lease.fence)
            await self._record(step, ())
        self._for_later = None

    async def _record(
        self,
        step: Step,
        events: Sequence[NewEvent],
        *,
        dues: Dues | None = None,
        then: StepStart | None = None,
    ) -> Step:
        write = partial(
            self._store.record_step, self._lease, step, events, dues=dues, then=then
        )
        if then is not None:
            self._ahead.expect(then.key)
        try:
            recorded = await self._insist(write)
        except asyncio.CancelledError:
            if dues is not None:  # the call was made, whoever stops the run
                self._insist.meanwhile(write)
            raise
        self._note_mail(has_mail=recorded.has_mail)
        if recorded.then is not None:
            self._ahead.begin(recorded.then)
        await self._ring(recorded.doorbells)
        return recorded.earlier or step

    async def start(self, start: StepStart) -> Started:
        if self._last is not None:
            await self._record_last()
        started = await self._ahead.follow(start.key)
        if started is None:
            self._cut_off |= {start.key}
            started = await self._insist(
                lambda: self._store.start_step(self._lease, start)
            )
            started = self._ahead.with_lapsed(start.key, started)
        if self._cut_off:
            self._cut_off = (self._cut_off - {start.key}) or NONE
        self._is_watched = self._is_watched or started.is_watched
        return started._replace(is_watched=self._is_watched)

    async def admit(self, start: StepStart, needs: Needs) -> Admission | None:
        if self._last is not None:
            await self._record_last()
        if await self._ahead.expects(start.key):
            return None
        self._cut_off |= {start.key}
        answer = await self._store.admit_step(self._lease, start, needs)
        self._cut_off = (self._cut_off - {start.key}) or NONE
        if isinstance(answer, Wait | Spent):
            return answer
        admitted, started = answer
        started = self._ahead.with_lapsed(start.key, started)
        self._ahead.admitted(start.key, started)
        return admitted

    async def drop_start(self, key: str) -> None:
        await self._insist(lambda: self._store.drop_start(self._lease, key))

    async def take_back(self) -> None:
        """Remove the marks of steps that were not begun after all.

        Of a completion that was to follow, and of what was cut off while it was marked.
        """
        await self._ahead.take_back()
        cut_off, self._cut_off = self._cut_off, NONE
        for key in cut_off:
            await self._insist.see_to(partial(self._drop_late, key))

    async def _drop_late(self, key: str) -> None:
        """Remove a mark that may still be on its way, and be overtaken once."""
        for _ in range(2):
            await self._store.drop_start(self._lease, key)

    async def take(self, key: str) -> Step | None:
        if self._last is not None:
            await self._record_last()
        if monotonic() < self._no_mail_until:
            return None
        return await self._insist(lambda: self._store.take_messages(self._lease, key))

    async def emit(
        self, events: Sequence[NewEvent], *, unfinished: Unfinished | None = None
    ) -> None:
        kept = unfinished if self._in_conversation else None
        if self._last is not None:
            await self._record_last()
        batch = token_hex(8)  # the same for each try: an answer may have been lost
        await self._insist(
            lambda: self._store.append_events(
                self._lease, events, batch=batch, unfinished=kept
            )
        )

    async def events(self, after: int) -> tuple[TaskEvent, ...]:
        tenant, task_id = self._lease.tenant, self._lease.task_id
        return await self._insist(
            lambda: self._store.events(tenant, task_id, after=after)
        )

    async def finish(
        self, ending: Ending, *, running_seconds: float
    ) -> tuple[Doorbell, ...]:
        """End the task, and record the step that waits in the same change.

        Raises:
            RedactionFailed: the ending cannot be kept as it is; nothing waits any more.
        """
        finish = partial(
            self._store.finish,
            self._lease,
            ending,
            running_seconds=running_seconds,
            last=self._last,
        )
        try:
            doorbells = await self._insist(finish)
        except RedactionFailed:
            await self._record_last()
            raise
        self._last = None
        return doorbells

    async def park(
        self, calls: Sequence[AwaitedCall], *, running_seconds: float
    ) -> tuple[Doorbell, ...]:
        """Give up the worker until a person has decided on calls."""
        await self._record_what_waits()
        park = partial(
            self._store.park, self._lease, calls, running_seconds=running_seconds
        )
        return await self._insist(park)

    async def release(
        self,
        *,
        running_seconds: float,
        delay_seconds: float,
        reason: str,
        failure: TaskFailure | None,
    ) -> tuple[Doorbell, ...]:
        """End the attempt without ending the task."""
        await self._record_what_waits()
        release = partial(
            self._store.release,
            self._lease,
            running_seconds=running_seconds,
            delay_seconds=delay_seconds,
            reason=reason,
            failure=failure,
        )
        return await self._insist(release)

    def leave(self) -> None:
        """Have a step that still waits recorded: nobody ends the run here."""
        last, self._last = self._last, None
        if last is not None:
            self._insist.meanwhile(lambda: self._store.record_step(self._lease, *last))


class DetachedRunLog:
    """Keeps nothing: for a task that is executed without being stored."""

    is_watched = False

    async def record(
        self,
        step: Step,
        events: Sequence[NewEvent],  # noqa: ARG002
        *,
        dues: Dues | None = None,  # noqa: ARG002 - an unstored run has none
        then: StepStart | None = None,  # noqa: ARG002
        may_wait: bool = False,  # noqa: ARG002
    ) -> Step:
        return step

    async def start(self, start: StepStart) -> Started:  # noqa: ARG002
        return Started(is_unknown=False, is_watched=False)

    async def admit(
        self,
        start: StepStart,
        needs: Needs,
    ) -> Admission | None:
        """Nothing is marked."""

    async def drop_start(self, key: str) -> None:
        """Nothing was marked."""

    async def take(self, key: str) -> Step | None:  # noqa: ARG002
        return None

    async def emit(
        self,
        events: Sequence[NewEvent],
        *,
        unfinished: Unfinished | None = None,
    ) -> None:
        """Drop them; nobody can watch an unstored task."""

    async def events(self, after: int) -> tuple[TaskEvent, ...]:  # noqa: ARG002
        return ()
