"""A line between a client and its Redis, on which a test does harm."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self


class Ends(NamedTuple):
    """What one side says, and where it listens."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass
class RedisLine:
    """Serves a unix socket in front of another; `join` carries what is said."""

    target: Path
    path: Path
    _writers: set[asyncio.StreamWriter] = field(default_factory=set, init=False)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def join(self, client: Ends, server: Ends) -> None:
        """Carry one connection to its end."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._server.sockets:
            loop.remove_reader(listener.fileno())
        for _ in range(2):  # as in workers/llm/double.py
            await asyncio.sleep(0)
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = Ends(reader, writer)
        server = Ends(*await asyncio.open_unix_connection(self.target))
        writers = {client.writer, server.writer}
        self._writers |= writers
        await self.join(client, server)
        self._writers -= writers
        for each in writers:
            each.close()
