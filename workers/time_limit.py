"""A time limit around what a task awaits, for what each run does many times.

`asyncio.timeout` without its states, its two coroutines and its moving of the limit:
it costs three times as much, and a run sets five.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class TimeLimit:
    """Cancels what is awaited within it at an instant, and raises `TimeoutError`.

    A cancel of the task itself goes before it.
    """

    def __init__(self, at: float | None) -> None:
        """Take an instant of the loop's clock; None is no limit."""
        self._at = at
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit stands inside an asyncio task")
        self._task = task
        self._cancels = task.cancelling()
        if self._at is not None:
            self._timer = task.get_loop().call_at(self._at, self._end)

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_over:
            return
        is_ours = self._task.uncancel() <= self._cancels
        if is_ours and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error
