"""A slow line to Redis: whatever passes comes late."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class SlowLine:
    """Forwards a unix socket."""

    target: Path
    path: Path
    delay_seconds: float
    """Each way, for each piece."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def __aenter__(self) -> SlowLine:
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
            await asyncio.gather(self._copy(reader, below), self._copy(above, writer))
        for each in (writer, below):
            self._writers.discard(each)
            each.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            await asyncio.sleep(self.delay_seconds)
            writer.write(chunk)
            await writer.drain()
        writer.close()
