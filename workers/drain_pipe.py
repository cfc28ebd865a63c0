"""How the pool processes of a prefork worker learn that it shuts down.

The parent holds the writing end of a pipe that every child inherits; closing it is the
news. So the parent needs no thread, no loop and no list of its children, and a child
that is forked too late, or whose parent has died, hears it too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress


class DrainPipe:
    """Made by the parent before it forks."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self._owner = os.getpid()

    def announce(self) -> None:
        """Tell the children, from the parent; again does nothing."""
        if self._owner == os.getpid():
            self._close_writing()

    def listen(
        self, loop: asyncio.AbstractEventLoop, drain: Callable[[], None]
    ) -> None:
        """Call `drain` on the loop once the parent has announced it; for a child."""
        if self._owner == os.getpid():
            return
        self._close_writing()

        def hear() -> None:
            loop.remove_reader(self._reading)
            drain()

        loop.call_soon_threadsafe(loop.add_reader, self._reading, hear)

    def _close_writing(self) -> None:
        writing, self._writing = self._writing, -1
        if writing >= 0:
            with suppress(OSError):
                os.close(writing)
