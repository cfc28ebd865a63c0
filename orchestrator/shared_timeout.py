"""One time limit for many calls, kept by one timer.

`asyncio.timeout` makes a timer for each call, a tenth of what a submit costs its
process. Knows nothing of what is called.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any


class SharedTimeout:
    """Ends what takes longer than so many seconds; one timer for an event loop's calls.

    What runs on another loop than the first has a timer of its own.
    """

    def __init__(self, seconds: float, *, error: Callable[[], Exception]) -> None:
        """Take what to raise when time is up, made when it is needed."""
        self._seconds = seconds
        self._error = error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: deque[_Call] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> AbstractContextManager[None]:
        """Begin what ends with the block, in a task; when it is late it is cancelled.

        Raises:
            Exception: `error`, where it is left so.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._seconds
        call = _Call(asyncio.current_task(), ends_at, self._error)
        if self._loop is None:
            self._loop = loop
        if loop is not self._loop:
            call.timer = loop.call_at(call.ends_at, call.expire)
            return call
        calls = self._calls
        while calls and calls[0].task is None:
            calls.popleft()
        calls.append(call)
        if self._timer is None:
            self._timer = loop.call_at(call.ends_at, self._look, loop)
        return call

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """End who is late; they are in the order of their ends."""
        calls, self._timer = self._calls, None
        while calls and (calls[0].task is None or calls[0].ends_at <= loop.time()):
            calls.popleft().expire()
        if calls:
            self._timer = loop.call_at(calls[0].ends_at, self._look, loop)


class _Call:
    """A call under way; tells its own cancel from others as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_error", "_is_expired", "ends_at", "task", "timer")

    def __init__(
        self,
        task: asyncio.Task[Any] | None,
        ends_at: float,
        error: Callable[[], Exception],
    ) -> None:
        if task is None:
            raise RuntimeError("a call is bounded inside a task")
        self.task: asyncio.Task[Any] | None = task
        self.ends_at = ends_at
        self.timer: asyncio.TimerHandle | None = None
        self._cancelling = task.cancelling()
        self._is_expired = False
        self._error = error

    def expire(self) -> None:
        """Cancel it, if it has not ended."""
        if self.task is not None:
            self._is_expired = True
            self.task.cancel()

    def __enter__(self) -> None:
        """It has begun."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        task, self.task = self.task, None
        if self.timer is not None:
            self.timer.cancel()
        if not self._is_expired or task is None:
            return
        is_ours = task.uncancel() <= self._cancelling
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._error() from None
