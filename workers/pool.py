"""AsyncPool: a Celery pool that runs thousands of tasks on one event loop.

Celery's own tracer runs each task in a greenlet on the loop, so signals, events,
revokes, limits and acknowledgement stay Celery's. Two threads: Celery's keeps its
broker, heartbeats and remote control, also while a task blocks the loop's.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from celery import signals
from celery.concurrency.base import BasePool
from celery.utils import threads
from celery.worker import state

from workers.greenlet_bridge import GreenletLoop
from workers.hub_waker import HubWaker
from workers.pool_choice import with_fast_locals, without_loop
from workers.pool_job import (
    UNWIND_SECONDS,
    Callbacks,
    Job,
    Limits,
    Surroundings,
)
from workers.resumption import Resumption

logger = logging.getLogger(__name__)

NOTED_SECONDS = 0.02
"""How much later Celery may learn that a task has begun; to be woken costs it more."""
DRAIN_WAKE_SECONDS = 1.0
"""A drain looks up this often: a signal may have finished it from within."""
TERMINATE_SECONDS = UNWIND_SECONDS + 2.0
"""How long a shutdown waits for tasks that it ended, in case they block the loop."""
_OF_CHILDREN = ("maxtasksperchild", "max_memory_per_child")
"""What Celery calls the limits after which a child is replaced."""


class AsyncPool(BasePool):  # type: ignore[misc]
    """Runs up to `limit` tasks at once on one event loop.

    `on_…`, `grow`, `shrink` and `terminate_job` are called by Celery on its thread;
    methods named `_loop_…` run on the loop's, and jobs live only there.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.options.get("threads"):
            raise without_loop()
        if threads.USE_FAST_LOCALS:
            raise with_fast_locals()
        self.loop: GreenletLoop | None = None
        """The loop of the tasks, while the pool runs."""
        self._accepting = False
        self._inbox: deque[Job] = deque()
        self._inbox_told = False
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._hub: Any = None
        self._reports: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._celery_woken = False
        self._looks_at = 0.0

    def register_with_event_loop(self, hub: Any) -> None:
        """Remember the hub whose thread is Celery's.

        Celery repeats this after a reconnect, which may have lost our wake-up.
        """
        self._hub = hub
        self._waker.listen(hub)
        self._wake_celery()

    def on_start(self) -> None:
        """Start the loop and announce the process, as a prefork child does."""
        self.loop = GreenletLoop("celeriac-pool")
        self._surroundings = Surroundings(
            loop=self.loop.loop,
            greenlets=self.loop.greenlets,
            resumption=Resumption(self.loop.loop),
            report=self._loop_report,
            note=self._loop_note,
            on_end=self._loop_on_end,
        )
        self._waker = HubWaker(self._pass_on_reports)
        self._accepting = True
        if any(map(self.options.get, _OF_CHILDREN)):
            logger.warning(
                "--max-tasks-per-child and --max-memory-per-child do nothing in"
                " AsyncPool: it has no child to replace"
            )
        signals.worker_process_init.send(sender=self._hostname)

    def on_close(self) -> None:
        """Take no more tasks; those without a slot stay unacknowledged."""
        self._accepting = False

    def on_stop(self) -> None:
        """Wait for the running tasks, then close the loop.

        A cold shutdown ends them: Celery has cancelled what it knows to run, but may
        not have heard of a start yet. May be called again from a signal handler that
        interrupts it.
        """
        cold = state.should_terminate  # an exit code, which may be 0, or nothing
        self._drain(end=cold is not None and cold is not False)

    def on_terminate(self) -> None:
        """End the running tasks, then close the loop."""
        self._drain(end=True)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Job | None:
        """Give a task to the loop; it starts as soon as a slot is free.

        None once the pool closes: the message stays unacknowledged.
        """
        if not self._accepting:
            return None
        job = Job(
            task_id=options.get("correlation_id", ""),
            call=partial(target, *args, **(kwargs or {})),
            callbacks=Callbacks(
                accepted=options.get("accept_callback") or _nothing,
                succeeded=options.get("callback") or _nothing,
                failed=options.get("error_callback") or _nothing,
                timed_out=options.get("timeout_callback") or _nothing,
            ),
            limits=Limits(
                soft=options.get("soft_timeout") or self.options.get("soft_timeout"),
                hard=options.get("timeout") or self.options.get("timeout"),
            ),
            surroundings=self._surroundings,
        )
        self._inbox.append(job)
        if not self._inbox_told:
            self._inbox_told = True
            self._looks_at = monotonic() + NOTED_SECONDS
            self._hub.call_later(NOTED_SECONDS, self._look)
            self._on_loop(self._loop_take_inbox)
        return job

    def terminate_job(self, *_: object) -> None:
        """Do nothing: Celery ends the `Job` itself too; the pid is that of them all."""

    def flush(self) -> None:
        """Forget tasks without a slot: the connection is lost, they come again."""
        self._on_loop(self._loop_drop_waiting)

    def grow(self, n: int = 1) -> None:
        """Add slots."""
        self.limit += n
        self._on_loop(self._loop_fill_slots)

    def shrink(self, n: int = 1) -> None:
        """Remove slots; tasks that hold one finish.

        Raises:
            ValueError: there are not that many.
        """
        if n > self.limit:
            raise ValueError(f"the pool has {self.limit} slots, so not {n} to remove")
        self.limit -= n

    def restart(self) -> None:
        """Do nothing: there is no child process that would hold old code."""

    def _get_info(self) -> dict[str, Any]:
        self._pass_on_reports()  # what runs is then active for Celery too
        return {
            **super()._get_info(),
            "running": len(self._running),
            "waiting": len(self._waiting) + len(self._inbox),
            "processes": [os.getpid()],
            "timeouts": [
                self.options.get("soft_timeout") or 0,
                self.options.get("timeout") or 0,
            ],
        }

    @property
    def _hostname(self) -> str | None:
        _, hostname = self.options.get("initargs") or (None, None)
        return hostname

    def _on_loop(self, call: Callable[..., None], *args: object) -> None:
        if self.loop is not None:
            self.loop.loop.call_soon_threadsafe(call, *args)

    def _loop_take_inbox(self) -> None:
        self._inbox_told = False
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
        self._loop_fill_slots()

    def _loop_fill_slots(self) -> None:
        while self._accepting and self._waiting and len(self._running) < self.limit:
            job = self._waiting.popleft()
            self._running.add(job)
            job.start()

    def _loop_on_end(self, job: Job) -> None:
        self._running.discard(job)
        if not self._accepting:
            self._reports.put(_nothing)
        elif self._waiting:
            self._surroundings.loop.call_soon(self._loop_fill_slots)

    def _loop_drop_waiting(self) -> None:
        self._waiting.clear()  # all that was applied before has left the inbox
        self._reports.put(_nothing)

    def _loop_report(self, report: Callable[[], object]) -> None:
        """Have Celery told on its own thread, in order."""
        self._reports.put(report)
        if not self._celery_woken:
            self._loop_wake_celery()

    def _loop_note(self, report: Callable[[], object]) -> None:
        """Have Celery told along with the next report, or when it looks by itself."""
        self._reports.put(report)
        if not self._celery_woken and monotonic() >= self._looks_at:
            self._loop_wake_celery()

    def _loop_wake_celery(self) -> None:
        """Wake it at the end of the loop's round.

        In its midst it would take the interpreter from the loop, to be told of less.
        """
        self._celery_woken = True
        self._surroundings.loop.call_soon(self._waker.wake)

    def _wake_celery(self) -> None:
        self._celery_woken = True
        self._waker.wake()

    def _look(self) -> None:
        """Have Celery told of starts, on its thread; a timer is not where it can be."""
        if not (self._celery_woken or self._reports.empty()):
            self._wake_celery()

    def _pass_on_reports(self) -> None:
        self._celery_woken = False
        with suppress(Empty):  # a drain in a signal handler may empty it at any moment
            while True:
                _tell_celery(self._reports.get_nowait())

    def _drain(self, *, end: bool) -> None:
        """Pass on reports until nothing runs; Celery's hub does not do it any more.

        What was ended gets a limited time, then the process leaves it behind.
        """
        self._accepting = False
        self._on_loop(self._loop_drop_waiting)
        looks_at, give_up_at = 0.0, inf
        while self._busy():
            now = monotonic()
            if now >= looks_at:  # at all of them, so not for each that ends
                looks_at = now + DRAIN_WAKE_SECONDS
                if self._all_terminated(end=end):
                    give_up_at = min(give_up_at, now + TERMINATE_SECONDS)
            if now > give_up_at:
                logger.error("ended tasks block the event loop and are left behind")
                self._leave_loop()
                return
            with suppress(Empty):
                _tell_celery(self._reports.get(timeout=DRAIN_WAKE_SECONDS))
        self._close()

    def _all_terminated(self, *, end: bool) -> bool:
        jobs = tuple(self._running)
        for job in jobs if end else ():
            if not job.terminated:
                job.terminate()
        return all(job.terminated for job in jobs)

    def _busy(self) -> bool:
        return self.loop is not None and bool(
            self._running or self._waiting or self._inbox or not self._reports.empty()
        )

    def _close(self) -> None:
        """Let the process close what it holds on the loop, then close the loop."""
        if self.loop is None:
            return
        signals.worker_process_shutdown.send(
            sender=self._hostname, pid=os.getpid(), exitcode=0
        )
        if loop := self._leave_loop():
            loop.close()

    def _leave_loop(self) -> GreenletLoop | None:
        """Return the loop, unless a signal handler that came in between has left it."""
        loop, self.loop = self.loop, None
        self._waker.close()
        # For a drain that this one interrupted: a `get` whose time is over by now would
        # wait for ever (CPython's SimpleQueue takes what is left of it for no limit).
        self._reports.put(_nothing)
        return loop


def _nothing(*_: object) -> None:
    """Wakes a drain; hears what nobody else wants to."""


def _tell_celery(report: Callable[[], object]) -> None:
    try:
        report()
    except Exception:
        logger.exception("Celery could not be told how a task went")
