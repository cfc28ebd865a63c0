"""When a stream is read on: at once where it is slow, in gatherings where it is fast.

To wake the loop, the connection, the reader and the run costs the same for one token as
for ten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from workers.llm.sent import Sent

GATHER_SECONDS: Final = 0.1
"""So long pieces gather at most; as long as what viewers see of them."""
_SHARE: Final = 0.1
"""Of the time that a stream has taken: so its end is not noticed much later."""
_MUCH_BYTES: Final = 64 * 1024
"""What brings so much at once is read as fast as it comes."""


class Gathering:
    """Reads a stream; its first piece as soon as it comes."""

    def __init__(self, sent: Sent, read: Callable[[], Awaitable[bytes]]) -> None:
        """Read a response's body by what returns its next piece."""
        self._sent = sent
        self._read = read
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._rest_seconds = 0.0

    async def next(self) -> bytes:
        """Return what has come meanwhile, or the next piece; nothing at the end."""
        if self._rest_seconds:
            await self._rest()
        asked = self._now()
        piece = await self._read()
        now = self._now()
        rest = min(GATHER_SECONDS, (now - self._began) * _SHARE)
        is_fast = now - asked < rest / 2 and len(piece) < _MUCH_BYTES
        self._rest_seconds = rest if is_fast else 0.0
        return piece

    async def _rest(self) -> None:
        """Leave to the kernel what comes, unless the end has come."""
        connection = self._sent.connection
        transport = connection.transport if connection is not None else None
        if transport is None:
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(self._rest_seconds)
        finally:
            transport.resume_reading()
