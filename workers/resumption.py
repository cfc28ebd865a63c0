"""How many tasks go on in one round of the pool's loop, so that none keeps it long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

ROUND_SECONDS = 0.005
"""Of each round: enough for a hundred tasks that end well, or a few that fail."""


class Resumption:
    """Lets tasks go on that have what they awaited, in order, some in each round.

    Celery makes a text and copies of frames of each error, for one or two milliseconds.
    When thousands end at once, they would keep the loop from those whose end is yet to
    be stored, and whose leases run out meanwhile.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[Callable[[], None]] = deque()
        self._ends_at: float | None = None
        """When the round that is under way has no more time for them."""

    def add(self, go_on: Callable[..., None], *arguments: Any) -> None:
        """Call this on the loop, where this is called: now, or in a later round."""
        if self._ends_at is None:
            self._begin_round()
        if self._ready or not self._has_time:
            self._ready.append(partial(go_on, *arguments))
        else:
            go_on(*arguments)

    @property
    def _has_time(self) -> bool:
        return self._ends_at is not None and monotonic() < self._ends_at

    def _begin_round(self) -> None:
        self._ends_at = monotonic() + ROUND_SECONDS
        self._loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        self._ends_at = None
        if self._ready:
            self._begin_round()
        while self._ready and self._has_time:
            self._ready.popleft()()
