"""Keeps what a run has done in memory while the store refuses it, and writes it again.

A full, read-only, stopped or missing store costs time, never a finished step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from conversations.errors import (
    ConversationError,
    ConversationStoreUnavailable,
    ConversationUnreadable,
)
from orchestrator.errors import OrchestratorError, StoreUnavailable
from workers.seldom import Seldom

T = TypeVar("T")
logger = logging.getLogger(__name__)

STORE_PATIENCE_SECONDS: Final = 600.0
"""A server that is full or gone is put right within this, or nobody looks."""
FIRST_WAIT_SECONDS: Final = 0.25
LONGEST_WAIT_SECONDS: Final = 2.0
"""A store that is back is noticed within this."""
SEEN_TO_SECONDS: Final = 2.0
"""So long a caller waits for what goes on without it."""


class Insistence:
    """Calls the store again and again, as long as there is patience."""

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._is_worth_telling = Seldom()  # a thousand runs may wait
        self._given_up = False
        self._meanwhile: set[asyncio.Task[None]] = set()

    def give_up(self) -> None:
        """Let what fails from now on fail at once."""
        self._given_up = True

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()`, which must be safe to repeat, until the store takes it.

        Raises:
            StoreUnavailable, ConversationStoreUnavailable: for longer than the
                patience.
            ConversationUnreadable: at once.
        """
        give_up_at = monotonic() + self._patience_seconds
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return await call()
            except ConversationUnreadable:
                raise
            except (StoreUnavailable, ConversationStoreUnavailable) as exc:
                if self._given_up or monotonic() + wait > give_up_at:
                    raise
                if self._is_worth_telling(told := str(exc)):
                    logger.warning("store refuses; trying again", extra={"error": told})
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def see_to(self, call: Callable[[], Awaitable[object]]) -> None:
        """Have `call()` taken, and wait for it a little.

        A caller that is cancelled meanwhile does not stop it.
        """
        await asyncio.wait({self.meanwhile(call)}, timeout=SEEN_TO_SECONDS)

    async def settle(self) -> None:
        """Give what is under way a moment to end."""
        if self._meanwhile:
            await asyncio.wait(self._meanwhile, timeout=SEEN_TO_SECONDS)

    def meanwhile(self, call: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """Have `call()` taken while its caller goes on; nobody is told how it ended."""
        task = asyncio.get_running_loop().create_task(self._quietly(call))
        self._meanwhile.add(task)
        task.add_done_callback(self._meanwhile.discard)
        return task

    async def _quietly(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await self(call)
        except (OrchestratorError, ConversationError) as exc:
            logger.warning("not written after all", extra={"error": str(exc)})
