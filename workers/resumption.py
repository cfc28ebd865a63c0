"""How many tasks go on in one round of the pool's loop, so that none keeps it long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

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
        self._is_called = False

    def add(self, go_on: Callable[[], None]) -> None:
        """Have this called on the loop, where this is called too."""
        self._ready.append(go_on)
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        ends_at = monotonic() + ROUND_SECONDS
        try:
            while self._ready:
                self._ready.popleft()()
                if monotonic() >= ends_at:
                    return
        finally:
            self._is_called = bool(self._ready)
            if self._is_called:
                self._loop.call_soon(self._go_on)
