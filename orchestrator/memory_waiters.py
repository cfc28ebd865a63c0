"""Waiting for a change of shared memory, across event loops and threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

Found = TypeVar("Found")


class MemoryWaiters:
    """Wakes coroutines of any loop when something named changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: defaultdict[
            Hashable, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
        ] = defaultdict(set)

    def notify(self, name: Hashable) -> None:
        """Wake all who wait for `name`."""
        with self._lock:
            waiting = tuple(self._waiting.get(name, ()))
        for loop, changed in waiting:
            with suppress(RuntimeError):  # the waiter's loop has been closed
                loop.call_soon_threadsafe(changed.set)

    async def until(
        self, name: Hashable, look: Callable[[], Found | None], *, wait_seconds: float
    ) -> Found | None:
        """Return what `look` finds, looking again after each change of `name`."""
        deadline = time.monotonic() + wait_seconds
        with self._registered(name) as changed:
            while True:
                changed.clear()
                found = look()
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await changed.wait()

    @contextmanager
    def _registered(self, name: Hashable) -> Iterator[asyncio.Event]:
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting[name].add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._lock:
                self._waiting[name].discard(waiter)
                if not self._waiting[name]:
                    del self._waiting[name]
