"""Bad lines to Redis: what passes comes late, or the connection ends in its middle."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class BadLine:
    """Forwards a unix socket; `carry` does the harm."""

    target: Path
    path: Path
    _writers: set[asyncio.StreamWriter] = field(default_factory=set, init=False)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def carry(
        self, chunk: bytes, sink: asyncio.StreamWriter, left: list[int]
    ) -> bool:
        """Pass a piece on; False ends its connection; `left` belongs to that."""
        raise NotImplementedError

    def lifetime(self) -> int:
        """How many bytes a new connection may carry."""
        return 0

    async def __aenter__(self) -> BadLine:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        above, below = await asyncio.open_unix_connection(self.target)
        self._writers |= {writer, below}
        left = [self.lifetime()]
        ways = [
            asyncio.create_task(self._copy(reader, below, left)),
            asyncio.create_task(self._copy(above, writer, left)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for each in (writer, below):
            self._writers.discard(each)
            each.transport.abort()

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
