"""How late a worker's event loop is, and who blocks it.

Runs on the heartbeat's loop: what is blocked cannot watch itself. Code of an agent or
tool that computes or waits without `await` stops every other run of the process; it is
named by task, tool and line, while it does so.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from types import FrameType
from typing import Any, Final, NamedTuple

from workers.greenlet_bridge import outcome_of

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Between two looks at a loop that is on time."""
LOOK_CLOSER_SECONDS = 0.1
"""Between two looks at one that is late."""
BLOCKED_SECONDS = 0.5
"""Spent by one task or call without a pause, it blocks; below it is work."""
_BEGINNINGS: Final = (asyncio.Handle._run.__code__, outcome_of.__code__)
"""Each call that the loop makes, or a greenlet on it, has a frame of one of these."""
_BLOCKED: Final = "event loop is blocked: no other run of this process goes on; "
_BY_A_TASK: Final = (
    _BLOCKED + "make the tool a plain function, which runs in a thread, or await in it"
)
_BY_NO_TASK: Final = (
    _BLOCKED + "a receiver of Celery's signals, or what else the loop calls, is to"
    " give such work to a thread"
)


class Culprit(NamedTuple):
    """Who blocks the loop, as far as it is known."""

    task_id: str
    agent: str
    step: str
    """The tool, or what else of the run."""


class LoopHealth(NamedTuple):
    """What was seen since the last report, and since the start."""

    lag_seconds: float
    """The longest that a callback waited for its turn, since the last report."""
    blocked: int
    """How often one task or call blocked the loop, since the start."""


class LoopWatch:
    """Watches one loop from another one."""

    def __init__(
        self,
        watched: asyncio.AbstractEventLoop,
        *,
        whose: Callable[[asyncio.Task[Any]], Culprit | None],
    ) -> None:
        """Watch a loop; `whose` tells which run an asyncio task on it belongs to."""
        self._watched = watched
        self._whose = whose
        self._thread_id: int | None = None
        self._answered_at = 0.0
        self._longest = 0.0
        self._asked_at: float | None = None
        self._blocked = 0

    @property
    def late_seconds(self) -> float:
        """How long the loop has owed an answer; 0 while it owes none."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else monotonic() - asked_at

    def report(self) -> LoopHealth:
        """Return the loop's health; what is under way counts already."""
        longest, self._longest = max(self._longest, self.late_seconds), 0.0
        return LoopHealth(lag_seconds=round(longest, 4), blocked=self._blocked)

    async def run(self) -> None:
        """Watch until cancelled."""
        while not self._watched.is_closed():
            await self._look_once()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_once(self) -> None:
        answered = threading.Event()
        self._asked_at = asked_at = monotonic()
        self._watched.call_soon_threadsafe(self._answer, answered)
        await asyncio.sleep(0.01)
        try:
            if not answered.is_set():
                await self._look_closer(answered, asked_at)
        finally:
            self._asked_at = None  # a worker whose loop owes an answer takes no task
        self._longest = max(self._longest, self._answered_at - asked_at)

    def _answer(self, answered: threading.Event) -> None:
        self._thread_id = threading.get_ident()
        self._answered_at = monotonic()
        answered.set()

    async def _look_closer(self, answered: threading.Event, asked_at: float) -> None:
        """Watch a late loop until it answers; who keeps it is told of."""
        keeper: object = None
        frames: list[FrameType] = []
        since, told = monotonic(), False
        while not answered.is_set():
            task, stack = asyncio.current_task(self._watched), self._stack()
            # No task runs a receiver of Celery's signals: it is known by its call.
            now = task or (stack[0] if stack else None)
            if now is not keeper:
                keeper, frames, since, told = now, stack, monotonic(), False
            frames = _still_there(frames, stack) or stack
            if now is not None and not told and monotonic() - since > BLOCKED_SECONDS:
                told = True
                self._tell(task, monotonic() - asked_at, frames)
            await asyncio.sleep(LOOK_CLOSER_SECONDS)
        if told:
            logger.warning(
                "event loop moves again",
                extra={"seconds": round(self._answered_at - asked_at, 2)},
            )

    def _tell(
        self,
        task: asyncio.Task[Any] | None,
        seconds: float,
        frames: Sequence[FrameType],
    ) -> None:
        self._blocked += 1
        culprit = self._whose(task) if task else None
        name = task.get_name() if task else "no task"
        logger.warning(
            _BY_A_TASK if task else _BY_NO_TASK,
            extra={
                "task_id": culprit.task_id if culprit else None,
                "agent": culprit.agent if culprit else None,
                "step": culprit.step if culprit else name,
                "at": _place(frames[-1]) if frames else None,
                "seconds": round(seconds, 2),
            },
        )

    def _stack(self) -> list[FrameType]:
        """Return the frames of the call that the loop's thread is in, its own last.

        There are none between two calls, as of an idle loop.
        """
        stack: list[FrameType] = []
        frame = sys._current_frames().get(self._thread_id or 0)
        while frame is not None:
            stack.append(frame)
            if frame.f_code in _BEGINNINGS:
                return stack[::-1]
            frame = frame.f_back
        return []


def _still_there(before: list[FrameType], now: list[FrameType]) -> list[FrameType]:
    """Return what has stood on the stack meanwhile: what it called may have changed."""
    same = 0
    for earlier, later in zip(before, now, strict=False):
        if earlier is not later:
            break
        same += 1
    return now[:same]


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
