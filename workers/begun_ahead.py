"""A completion whose start mark was written before it was asked to.

With its run's claim, with the step before it, or with its permit and its budget: each
saves a round trip where the completion follows at once. One that does not follow in
time loses it, so that a crash does not count what was never asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from time import monotonic

from orchestrator.errors import LeaseLost, StoreUnavailable
from orchestrator.store import Started
from workers.none_yet import NONE

AHEAD_SECONDS = 0.25
"""So long the mark serves; later, viewers and the lease are looked at again."""


class BegunAhead:
    """At most one such completion of a run."""

    def __init__(self, drop: Callable[[str], Awaitable[None]]) -> None:
        """Wait for one; `drop` removes the mark of a step by its key."""
        self._drop = drop
        self._key: str | None = None
        self._started: Started | None = None
        self._until = 0.0
        self._end: asyncio.TimerHandle | None = None
        self._dropping: asyncio.Task[None] | None = None
        self._was_unknown: frozenset[str] = NONE
        """Whose mark was given up after it had told of an earlier attempt's."""

    def expect(self, key: str) -> None:
        """Note that a mark is on its way; nobody knows yet whether it arrives."""
        self._key, self._started = key, None

    def begin(self, started: Started) -> None:
        """Note that the mark is written."""
        self._started, self._until = started, monotonic() + AHEAD_SECONDS
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(AHEAD_SECONDS, self._give_up)

    async def expects(self, key: str) -> bool:
        """Whether the mark of a completion is written, or on its way."""
        if self._dropping is not None:
            await asyncio.wait({self._dropping})
        return key == self._key

    def admitted(self, key: str, started: Started) -> None:
        """Note that a completion which now follows was marked when it was admitted."""
        if self._key is not None:  # of another, that comes later or not at all
            self._give_up()
        self._key, self._started, self._until = key, started, inf

    async def follow(self, key: str) -> Started | None:
        """Return how a completion that is asked now was marked; None without a mark."""
        if self._dropping is not None:
            await asyncio.wait({self._dropping})
        if key != self._key:
            return None
        if monotonic() < self._until:
            self._forget()
            return self._started
        self._lapse()
        return None

    def with_lapsed(self, key: str, started: Started) -> Started:
        """Add what a mark had told that was given up before this one was written."""
        if key not in self._was_unknown:
            return started
        self._was_unknown -= {key}
        return started._replace(is_unknown=True)

    async def take_back(self) -> None:
        """Remove the mark of a completion that was not asked.

        What stays where the store is away counts as `maybe_paid`, no more.
        """
        if self._key is not None:
            self._give_up()
        if self._dropping is not None:
            await asyncio.wait({self._dropping})

    def _give_up(self) -> None:
        key = self._lapse()
        if key is not None:
            self._dropping = asyncio.create_task(self._remove(key))

    def _lapse(self) -> str | None:
        key = self._forget()
        if key is not None and self._started is not None and self._started.is_unknown:
            self._was_unknown |= {key}
        return key

    def _forget(self) -> str | None:
        if self._end is not None:
            self._end.cancel()
        key, self._key = self._key, None
        return key

    async def _remove(self, key: str) -> None:
        with suppress(StoreUnavailable, LeaseLost):
            await self._drop(key)
