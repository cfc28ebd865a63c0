"""One Celery task in the asyncio pool: its greenlet, its limits, how it is ended.

Everything here happens on the pool's loop thread. What Celery is to be told goes to
`report`, which carries it to Celery's own thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery.exceptions import SoftTimeLimitExceeded

from workers.greenlet_bridge import ENDED, Greenlets, LoopGreenlet, given_by
from workers.resumption import Resumption

logger = logging.getLogger(__name__)

UNWIND_SECONDS = 5.0
"""How long an ended task may clean up before its slot is taken from it."""


class TaskEnded(BaseException):
    """Unwinds the body of a task that was ended from outside.

    Not an Exception, so that `except Exception` in a task cannot survive its end.
    """


@dataclass(slots=True, kw_only=True)
class Callbacks:
    """What Celery's request wants to hear, in Celery's own signatures."""

    accepted: Callable[[int, float], object]
    succeeded: Callable[[Any], object]
    failed: Callable[[Any], object]
    timed_out: Callable[[bool, float], object]


@dataclass(slots=True, kw_only=True)
class Limits:
    """Seconds a task may run; None is no limit."""

    soft: float | None
    hard: float | None


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What the jobs of one pool share."""

    loop: asyncio.AbstractEventLoop
    greenlets: Greenlets
    resumption: Resumption
    report: Callable[[Callable[[], object]], None]
    """Have this called on Celery's thread, in order."""
    note: Callable[[Callable[[], object]], None]
    """The same of what may be told along with the next report."""
    on_end: Callable[[Job], None]
    """Told when a job has left its slot."""
    unwind_seconds: float = UNWIND_SECONDS


class Job:
    """One task on the loop, from its slot to its end.

    Celery keeps a weak reference to it and calls `terminate`.
    """

    def __init__(
        self,
        *,
        task_id: str,
        call: partial[Any],
        callbacks: Callbacks,
        limits: Limits,
        surroundings: Surroundings,
    ) -> None:
        self._task_id = task_id
        self._call = call
        self._callbacks = callbacks
        self._limits = limits
        self._loop = surroundings.loop
        self._report = surroundings.report
        self._note = surroundings.note
        self._on_end = surroundings.on_end
        self._greenlets = surroundings.greenlets
        self._resumption = surroundings.resumption
        self._unwind_seconds = surroundings.unwind_seconds
        self.terminated = False
        self._settled = False
        self._unwinding = False
        self._greenlet: LoopGreenlet | None = None
        self._context = contextvars.copy_context()
        self._awaiting: asyncio.Task[Any] | None = None
        self._interruption: BaseException | None = None
        self._is_in_place = False
        """Of what the body awaits, whatever that comes to."""
        self._timers: list[asyncio.TimerHandle] = []

    def terminate(self, *_: object) -> None:
        """Have the task ended, or never begun when it waits for a slot.

        Celery and the pool call this from Celery's thread, perhaps more than once, and
        settle the task themselves.
        """
        self.terminated = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)

    def start(self) -> None:
        """Take the slot: run the task until it first awaits."""
        self._note(partial(self._callbacks.accepted, os.getpid(), monotonic()))
        if self.terminated:
            self._on_end(self)
            return
        body = self._greenlet = self._greenlets.calling(self._call, self._context)
        self._call_later(self._limits.soft, self._on_soft_limit)
        self._call_later(self._limits.hard, self._on_hard_limit)
        self._step(body, body.switch)

    def _end(self) -> None:
        """Unwind the running task; Celery has settled it and hears nothing more."""
        if self._unwinding or self._greenlet is None:
            return
        self._unwinding = self._settled = True
        self._cancel_timers()
        self._call_later(self._unwind_seconds, self._abandon)
        self._interrupt(TaskEnded("the task was ended by a limit or a revoke"))

    def _settle(self, report: Callable[[], object]) -> None:
        if not self._settled:
            self._settled = True
            self._report(report)

    def _step(
        self, body: LoopGreenlet, resume: Callable[..., Any], *values: object
    ) -> None:
        """Let the body run until it awaits or ends; report how it ended."""
        try:
            given = given_by(resume, *values)
        except BaseException:  # noqa: BLE001 - a task must not end the loop
            if not self._settled:  # what tells of an error takes half a millisecond
                self._settle(partial(self._callbacks.failed, ExceptionInfo()))
        else:
            if given is ENDED:
                outcome = self._greenlets.take_back(body)
                _let_go_of_frames(outcome)
                self._settle(partial(self._callbacks.succeeded, outcome))
            elif not body.dead:
                self._await(body, given)
                return
        self._greenlet = None
        self._cancel_timers()
        self._on_end(self)

    def _await(self, body: LoopGreenlet, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._awaiting = self._loop.create_task(coroutine, context=self._context)
        self._awaiting.add_done_callback(partial(self._resume_soon, body))

    def _resume_soon(self, body: LoopGreenlet, awaited: asyncio.Task[Any]) -> None:
        self._resumption.add(self._resume, body, awaited)

    def _resume(self, body: LoopGreenlet, awaited: asyncio.Task[Any]) -> None:
        """Give the body what its coroutine came to, or what interrupted it."""
        self._awaiting = None
        interruption, self._interruption = self._interruption, None
        error: BaseException | None
        if awaited.cancelled():
            error = interruption or asyncio.CancelledError()
        else:
            error = awaited.exception()
            if interruption is not None and self._is_in_place:
                error = interruption
        if body.dead:
            return
        if error is None:
            self._step(body, body.switch, awaited.result())
        else:
            self._step(body, body.throw, error)

    def _interrupt(self, interruption: BaseException) -> None:
        """Cancel what the body awaits; it gets the interruption in its place.

        A soft limit is the coroutine's to handle: what it then returns counts, unless
        it had ended and could not: a task of many short awaits is often found so.
        """
        self._interruption = interruption
        is_told = self._awaiting is not None and self._awaiting.cancel()
        self._is_in_place = not is_told or isinstance(interruption, TaskEnded)

    def _on_soft_limit(self, seconds: float) -> None:
        self._report(partial(self._callbacks.timed_out, True, seconds))
        self._interrupt(SoftTimeLimitExceeded(seconds))

    def _on_hard_limit(self, seconds: float) -> None:
        self._settle(partial(self._callbacks.timed_out, False, seconds))
        self._end()

    def _abandon(self, seconds: float) -> None:
        """Take the slot from an ended task that does not clean up in time.

        One that is about to go on, among many, has not begun to.
        """
        if self._awaiting is not None and self._awaiting.done():
            self._call_later(seconds, self._abandon)
            return
        logger.error(
            "ended task does not clean up; its coroutine is left behind",
            extra={"task_id": self._task_id, "seconds": seconds},
        )
        body = self._greenlet
        if body is not None:
            body.refusal = TaskEnded("the task had its time to clean up")
            self._step(body, body.throw, body.refusal)

    def _call_later(
        self, seconds: float | None, callback: Callable[[float], None]
    ) -> None:
        if seconds:
            self._timers.append(self._loop.call_later(seconds, callback, seconds))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _let_go_of_frames(outcome: Any) -> None:
    """Break the cycle that Celery's tracer leaves when a task raises, `Ignore` too.

    The exception, as each that it came of, holds the tracer's frame, and that what was
    made of the exception: a hundred kilobytes for each task, until Python's collector
    comes by. What Celery tells of the error is in copies.
    """
    info = outcome[1] if isinstance(outcome, tuple) and len(outcome) > 1 else None
    if isinstance(info, ExceptionInfo):
        error = info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        errors = [error]
        for each in errors:
            each.with_traceback(None)  # a frozen one lets nobody set an attribute
            for other in (each.__cause__, each.__context__):
                if other is not None and all(other is not known for known in errors):
                    errors.append(other)
