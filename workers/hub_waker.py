"""Has Celery's own thread call something, from any other thread.

What kombu's `Hub.call_soon` calls may hand it more: Celery acknowledges tasks so. That
waits until the hub's poll has ended by itself, for up to a second, since the hub has
already looked what is to be called. What a reader hands over is called at once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class HubWaker:
    """Wakes a hub, which then makes a call on its thread."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._hub: Any = None
        self._heard, self._told = socket.socketpair()
        self._heard.setblocking(False)
        self._told.setblocking(False)

    def listen(self, hub: Any) -> None:
        """Be one of a hub's readers; repeat it when the hub was reset."""
        self._hub = hub
        hub.add_reader(self._heard, self._on_readable)

    def wake(self) -> None:
        """Have the call made soon; calls that were not made yet may become one."""
        with suppress(OSError):  # full, so that it wakes anyway; or closed
            self._told.send(b"\0")

    def close(self) -> None:
        """Make no call any more."""
        if self._hub is not None:
            self._hub.remove_reader(self._heard)
        self._heard.close()
        self._told.close()

    def _on_readable(self) -> None:
        with suppress(OSError):  # read already; or a signal closed it in between
            self._heard.recv(4096)
        self._call()
