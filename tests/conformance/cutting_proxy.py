"""A proxy before a Redis socket that loses answers when told to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path


class CuttingProxy:
    """Forwards bytes both ways; each answer to lose cuts its connection instead."""

    def __init__(self, target: Path, path: Path) -> None:
        self._target = target
        self.path = path
        self._losing = 0
        self.lost = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def lose_next_answer(self) -> None:
        self.lose_answers(1)

    def lose_answers(self, count: int) -> None:
        self._losing = count

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        above, below = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, below}
        with suppress(OSError):
            await asyncio.gather(
                self._copy(reader, below), self._copy_answers(above, writer, below)
            )
        for each in (writer, below):
            self._writers.discard(each)
            each.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def _copy_answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        below: asyncio.StreamWriter,
    ) -> None:
        while chunk := await reader.read(65536):
            if self._losing:
                self._losing -= 1
                self.lost += 1
                break
            writer.write(chunk)
            await writer.drain()
        writer.close()
        below.close()
