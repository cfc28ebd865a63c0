"""An event loop on a thread of its own, and how synchronous code waits for it.

A worker process has one for all its runs; the blocking face of the orchestrator has
one. Made after a fork, never carried across one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long `close` waits for what still runs on the loop to take its cancel."""


class LoopThread:
    """An event loop on a daemon thread."""

    def __init__(self, name: str = "celeriac-loop") -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, for `call_soon_threadsafe`."""
        return self._loop

    @property
    def is_alive(self) -> bool:
        """False once closed, and in a child forked from the process that made it."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def await_(
        self, coroutine: Coroutine[Any, Any, T], *, timeout: float | None = None
    ) -> T:
        """Block until the coroutine ends on the loop; return or raise what it does.

        When the waiting thread is interrupted (Celery's time-limit signal, Ctrl-C) the
        coroutine is cancelled and its end awaited before the interruption goes on.

        Raises:
            TimeoutError: it did not end within `timeout` seconds and was cancelled.
        """
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(
            _telling(coroutine, ended), self._loop
        )
        try:
            return future.result(timeout)
        except BaseException:
            if future.cancel():
                ended.wait(STOP_SECONDS)
            raise

    def close(self) -> None:
        """Cancel what runs, stop the loop and join its thread."""
        if not self.is_alive:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(
            STOP_SECONDS + 1
        )
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._served():
                pass
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _served(self) -> bool:
        """Run the loop; tell whether it was stopped and not left by an exception.

        asyncio lets SystemExit and KeyboardInterrupt of one task stop the whole loop.
        """
        try:
            self._loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            logger.exception("code on the event loop tried to end the process")
            return False
        return True


async def _telling(coroutine: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    """Await the coroutine; tell when it has really ended, not when it was asked to."""
    try:
        return await coroutine
    finally:
        ended.set()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
