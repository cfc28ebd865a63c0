"""The start marks around requests to a model, and which may have been paid twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.journal import StepKind, StepStart
from workers.errors import LLMError
from workers.live_text import LiveText
from workers.llm.run_provider import Heard
from workers.run_log import RunLog


class CompletionMarks:
    """Marks a completion as begun for as long as nobody knows its outcome."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._unanswered: set[str] = set()
        self.maybe_paid = 0
        """Completions asked for again whose first answer a crash hid."""

    @asynccontextmanager
    async def around(
        self, key: str, live: LiveText | None
    ) -> AsyncIterator[Heard | None]:
        """Enclose a request by a start mark and, when it is refused, its removal.

        Yields what is to hear the answer as it comes, where somebody watches.
        """
        if live is not None:
            live.again()
        start = StepStart(key=key, kind=StepKind.COMPLETION)
        started = await self._log.start(start)
        self.maybe_paid += started.is_unknown
        try:
            yield live.hear if live and started.is_watched else None
        except LLMError as exc:
            if exc.status is None:
                self._unanswered.add(key)
            elif key not in self._unanswered:
                await self._log.drop_start(key)
            raise
