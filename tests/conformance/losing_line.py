"""A line to Redis that loses answers when told to."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from tests.redis_line import Ends, RedisLine


@dataclass
class LosingLine(RedisLine):
    """Each answer to lose ends its connection instead."""

    lost: int = field(default=0, init=False)
    _losing: int = field(default=0, init=False)

    def lose_next_answer(self) -> None:
        self.lose_answers(1)

    def lose_answers(self, count: int) -> None:
        self._losing = count

    async def join(self, client: Ends, server: Ends) -> None:
        with suppress(OSError):
            await asyncio.gather(
                self._commands(client.reader, server.writer),
                self._answers(server.reader, client.writer, asked=server.writer),
            )

    async def _commands(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        asked: asyncio.StreamWriter,
    ) -> None:
        while chunk := await reader.read(65536):
            if self._losing:
                self._losing -= 1
                self.lost += 1
                break
            writer.write(chunk)
            await writer.drain()
        writer.close()
        asked.close()
