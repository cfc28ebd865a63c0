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
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Between two looks at a loop that is on time."""
LOOK_CLOSER_SECONDS = 0.1
"""Between two looks at one that is late."""
BLOCKED_SECONDS = 0.5
"""Spent by one task without a pause, it blocks; below it is work."""


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
    """How often one task blocked the loop, since the start."""


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
        since, told = monotonic(), False
        while not answered.is_set():
            task = asyncio.current_task(self._watched)
            # No task runs a receiver of Celery's signals: its frame stands still.
            now = task or self._frame()
            if now is not keeper:
                keeper, since, told = now, monotonic(), False
            if now is not None and not told and monotonic() - since > BLOCKED_SECONDS:
                told = True
                self._tell(task, monotonic() - asked_at)
            await asyncio.sleep(LOOK_CLOSER_SECONDS)
        if told:
            logger.warning(
                "event loop moves again",
                extra={"seconds": round(self._answered_at - asked_at, 2)},
            )

    def _tell(self, task: asyncio.Task[Any] | None, seconds: float) -> None:
        self._blocked += 1
        culprit = self._whose(task) if task else None
        name = task.get_name() if task else "no task"
        logger.warning(
            "event loop is blocked: no other run of this process goes on; make the"
            " tool a plain function, which runs in a thread, or await in it",
            extra={
                "task_id": culprit.task_id if culprit else None,
                "agent": culprit.agent if culprit else None,
                "step": culprit.step if culprit else name,
                "at": self._where(),
                "seconds": round(seconds, 2),
            },
        )

    def _frame(self) -> FrameType | None:
        """Return what the loop's thread stands in."""
        return sys._current_frames().get(self._thread_id or 0)

    def _where(self) -> str | None:
        frame = self._frame()
        if frame is None:
            return None
        return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
