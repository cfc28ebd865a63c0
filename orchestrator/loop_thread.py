"""An event loop on a thread of its own, and how synchronous code waits for it.

A worker process has one for all its runs; the blocking face of the orchestrator has
one. Made after a fork, never carried across one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long `close` waits for what still runs on the loop to take its cancel."""


class _LoopsThread(threading.Thread):
    """Known by its type to whoever asks where it is."""


def is_in_loops_coroutine() -> bool:
    """Whether the caller is a coroutine on the loop of a `LoopThread`.

    Code that such a loop runs in a greenlet is none.
    """
    is_there = isinstance(threading.current_thread(), _LoopsThread)
    return is_there and asyncio.current_task() is not None


class LoopClosed(RuntimeError):
    """The loop takes no call any more."""


class LoopThread:
    """An event loop on a daemon thread."""

    def __init__(self, name: str = "celeriac-loop") -> None:
        self._pid = os.getpid()
        self._takes_calls = True
        # Whoever begins a call holds it, so that `close` finds each call on the loop:
        # one behind its last turn would never end. A signal's handler may call too.
        self._beginning = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._is_closing = False
        self._thread = _LoopsThread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, for `call_soon_threadsafe`."""
        return self._loop

    @property
    def is_alive(self) -> bool:
        """False once closed, and in a child forked from the process that made it."""
        is_ours = self._pid == os.getpid()
        return is_ours and self._takes_calls and self._thread.is_alive()

    def await_(
        self, coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None
    ) -> T:
        """Block until the coroutine ends on the loop; return or raise what it does.

        When the waiting thread is interrupted (Celery's time-limit signal, Ctrl-C) the
        coroutine is cancelled and its end awaited before the interruption goes on.

        Raises:
            TimeoutError: it did not end within `timeout` seconds and was cancelled.
            LoopClosed: the loop was closed before.
            CancelledError: it was closed meanwhile.
        """
        call = _Call(coroutine)
        self._begin(call.start, coroutine)
        has_ended = False
        try:
            has_ended = call.wait(-1 if timeout is None else timeout)
        finally:
            if not has_ended:
                self._loop.call_soon_threadsafe(call.cancel)
                call.wait(STOP_SECONDS)
        if not has_ended:
            raise TimeoutError
        return call.result()

    def _begin(
        self, start: Callable[[], object], coroutine: Coroutine[Any, Any, object]
    ) -> None:
        with self._beginning:
            if self._takes_calls:
                self._loop.call_soon_threadsafe(start)
                return
        coroutine.close()
        raise LoopClosed("the event loop is closed; make a new one")

    def close(self) -> None:
        """Take no more calls, cancel what runs, stop the loop and join its thread."""
        if not self.is_alive:
            return
        with self._beginning:
            if not self._takes_calls:  # another thread closes it
                return
            self._takes_calls = False
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(
            STOP_SECONDS + 1
        )
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(STOP_SECONDS)

    def abandon(self, last: Coroutine[Any, Any, object]) -> None:
        """Have the loop end by itself once it has run a last coroutine; waits not."""

        async def leave() -> None:
            try:
                await last
            finally:
                await _cancel_all()
                self._loop.call_soon(self._stop)

        with self._beginning:
            self._takes_calls = False
        leaving = leave()
        try:
            asyncio.run_coroutine_threadsafe(leaving, self._loop)
        except RuntimeError:  # closed meanwhile
            leaving.close()
            last.close()

    def _stop(self) -> None:
        self._is_closing = True
        self._loop.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._served():
                pass
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _served(self) -> bool:
        """Run the loop; tell whether it was stopped from here.

        asyncio lets any task stop the whole loop, SystemExit and KeyboardInterrupt too.
        """
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            logger.exception("code on the event loop tried to end the process")
            return False
        if not self._is_closing:
            logger.error("code on the event loop tried to stop it")
        return self._is_closing


class _Call(Generic[T]):
    """A coroutine that another thread waits for.

    A future of `concurrent.futures` costs as much as the way to the thread and back.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[T] | None = None
        self._running = threading.Lock()
        self._running.acquire()

    def wait(self, seconds: float) -> bool:
        """Block until it has ended, not only been asked to; -1 waits for ever."""
        return self._running.acquire(timeout=seconds)

    def result(self) -> T:
        """Return or raise what it did, once it has ended."""
        assert self._task is not None  # noqa: S101
        try:
            return self._task.result()
        except asyncio.CancelledError:
            raise CancelledError from None

    def cancel(self) -> None:
        """Ask it to end; on the loop."""
        if self._task is not None:
            self._task.cancel()

    def start(self) -> None:
        """Run it; on the loop."""
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._running.release())


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
