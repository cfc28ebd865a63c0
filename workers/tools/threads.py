"""Threads for tools that are plain functions.

A hung tool must neither keep the process from ending nor take the threads of others:
the threads are daemons, and every tool has its own few.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TypeVar

T = TypeVar("T")


class DaemonThreads:
    """Runs calls in order of arrival in at most `limit` threads at once.

    A thread ends when nothing waits, so an idle tool holds none.
    """

    def __init__(self, limit: int, *, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = 0

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run `function` with the caller's context variables.

        Cancelling the future keeps a call that has not begun from running; one that
        has begun runs to its end and holds its thread until then.
        """
        future: Future[T] = Future()
        context = contextvars.copy_context()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(context.run(function))
            except BaseException as exc:  # noqa: BLE001  raised again by the caller
                future.set_exception(exc)

        with self._lock:
            self._waiting.append(run)
            if self._threads < self._limit:
                self._add_thread()
        return future

    def _add_thread(self) -> None:
        """Start a thread; where the system gives no more, those there are will do.

        Raises:
            RuntimeError: there is none.
        """
        try:
            Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            if not self._threads:
                self._waiting.pop()  # the caller is told that it does not run
                raise
        else:
            self._threads += 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                run = self._waiting.popleft()
            run()
