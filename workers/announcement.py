"""Events that viewers are told soon, or together with what follows if that is sooner.

A tool that answers at once costs one write to the log, not two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from orchestrator.events import NewEvent
from workers.run_log import RunLog

logger = logging.getLogger(__name__)

TELL_AFTER_SECONDS = 0.05
"""Nobody who watches notices; most tools that need no I/O have ended."""


class Announcement:
    """One batch of events on its way."""

    def __init__(
        self,
        log: RunLog,
        events: Sequence[NewEvent],
        *,
        after_seconds: float = TELL_AFTER_SECONDS,
    ) -> None:
        self._log = log
        self._events = events
        self._telling: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(after_seconds, self._tell) if events else None

    async def tell(self) -> None:
        """Tell at once.

        Raises:
            LeaseLost: the run is another worker's.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._tell()
        await self.take_back()

    async def take_back(self) -> Sequence[NewEvent]:
        """Return the events for the caller to tell; none once they are told.

        Raises:
            LeaseLost: they could not be told, because the run is another worker's.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self._telling is None:
            return self._events
        await self._telling
        return ()

    def _tell(self) -> None:
        self._telling = asyncio.create_task(self._log.emit(self._events))
        self._telling.add_done_callback(_note_failure)


def _note_failure(telling: asyncio.Task[None]) -> None:
    if not telling.cancelled() and telling.exception() is not None:
        logger.debug("events were not told", exc_info=telling.exception())
