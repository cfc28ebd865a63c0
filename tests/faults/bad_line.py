"""Bad lines to Redis: what passes comes late, or the connection ends in its middle."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

from tests.redis_line import Ends, RedisLine


@dataclass
class BadLine(RedisLine):
    """`carry` does the harm."""

    async def carry(
        self, chunk: bytes, sink: asyncio.StreamWriter, left: list[int]
    ) -> bool:
        """Pass a piece on; False ends its connection; `left` belongs to that."""
        raise NotImplementedError

    def lifetime(self) -> int:
        """How many bytes a new connection may carry."""
        return 0

    async def join(self, client: Ends, server: Ends) -> None:
        left = [self.lifetime()]
        ways = [
            asyncio.create_task(self._copy(client.reader, server.writer, left)),
            asyncio.create_task(self._copy(server.reader, client.writer, left)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (client, server):
            end.writer.transport.abort()

    async def _copy(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        left: list[int],
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(65536):
                if not await self.carry(chunk, sink, left):
                    return


@dataclass
class SlowLine(BadLine):
    """Whatever passes comes late."""

    delay_seconds: float
    """Each way, for each piece."""

    async def carry(
        self, chunk: bytes, sink: asyncio.StreamWriter, left: list[int]
    ) -> bool:
        await asyncio.sleep(self.delay_seconds)
        sink.write(chunk)
        await sink.drain()
        return True


@dataclass
class CutLine(BadLine):
    """Ends each connection after a random number of bytes, once it is told to."""

    chance: random.Random
    least_bytes: int = 1_000
    most_bytes: int = 60_000
    cuts: int = field(default=0, init=False)
    is_cutting: bool = field(default=False, init=False)
    """Scripts are larger than most connections live: they are loaded before."""

    def lifetime(self) -> int:
        ratio = self.most_bytes / self.least_bytes
        return int(self.least_bytes * ratio ** self.chance.random())

    async def carry(
        self, chunk: bytes, sink: asyncio.StreamWriter, left: list[int]
    ) -> bool:
        if self.is_cutting:
            chunk, left[0] = chunk[: left[0]], left[0] - len(chunk)
        sink.write(chunk)
        await sink.drain()
        self.cuts += left[0] <= 0
        return left[0] > 0
