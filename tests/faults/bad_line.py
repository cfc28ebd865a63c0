"""A bad line to Redis: answers come late, or the connection breaks in the middle."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SHORTEST_BYTES = 5_000


@dataclass
class BadLine:
    """Forwards a unix socket; `cuts` counts what it broke."""

    target: Path
    path: Path
    delay_seconds: float = 0.0
    """Each way."""
    longest_bytes: int | None = None
    """A connection breaks after so many bytes at most, in the middle of whatever."""
    seed: int = 0
    cuts: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> BadLine:
        self._chance = random.Random(self.seed)  # noqa: S311
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
        with suppress(OSError):
            ways = [
                asyncio.create_task(self._copy(reader, below)),
                asyncio.create_task(self._copy(above, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        for each in (writer, below):
            self._writers.discard(each)
            each.transport.abort()

    def _length(self) -> int:
        """Each order of magnitude is as likely, so that some connections do work."""
        return round(
            math.exp(self._chance.uniform(0, math.log(self.longest_bytes or 1)))
        )

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = self._length()
        while chunk := await reader.read(4096):
            await asyncio.sleep(self.delay_seconds)
            if self.longest_bytes is not None and len(chunk) >= left:
                writer.write(chunk[:left])
                await writer.drain()
                self.cuts += 1
                return
            left -= len(chunk)
            writer.write(chunk)
            await writer.drain()
