"""Between a worker and its Redis: stops the worker at a boundary, or goes silent.

It reads the commands that pass, so that a test can hold the worker exactly before or
after a script took effect, without a line for tests in the product.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Literal, NamedTuple

from orchestrator.redis_scripts import read_script
from tests.redis_line import Ends, RedisLine

Side = Literal["before", "after"]
_POPS = ("BRPOP", "BLMPOP")


class Boundary(NamedTuple):
    """The n-th call of a script or command, before or after it took effect."""

    name: str
    side: Side
    nth: int = 1


@dataclass
class RedisProxy(RedisLine):
    """`hold` chooses where to stop."""

    reached: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    open: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Cleared, nothing passes either way and nothing is closed."""
    _digests: dict[str, str] = field(default_factory=dict, init=False)
    _boundary: Boundary | None = field(default=None, init=False)
    _passed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.open.set()

    def hold(self, boundary: Boundary) -> None:
        """Stop the connection that comes to the boundary; `reached` tells."""
        self._boundary, self._passed = boundary, 0

    async def join(self, client: Ends, server: Ends) -> None:
        connection = _Connection(self)
        with suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(
                connection.forward_commands(client.reader, server.writer),
                connection.forward_answers(server.reader, client.writer),
            )

    def side_of(self, command: list[bytes]) -> Side | None:
        """Whether this call is the boundary, counting it."""
        name = self._name_of(command)
        if self._boundary is None or self._boundary.name != name:
            return None
        self._passed += 1
        return self._boundary.side if self._passed == self._boundary.nth else None

    def _name_of(self, command: list[bytes]) -> str:
        verb = command[0].decode().upper()
        if verb == "SCRIPT" and command[1].upper() == b"LOAD":
            self._learn(command[2])
        if verb == "EVALSHA":
            return _plain(self._digests.get(command[1].decode(), ""))
        if verb == "FCALL":
            return _plain(command[1].decode().split("_", 2)[2])
        return "pop" if verb in _POPS else verb

    def _learn(self, text: bytes) -> None:
        for name in (
            "claim",
            "start_step",
            "admit_step",
            "record_step",
            "finish",
            "finish_plain",
            "release",
            "renew",
        ):
            if read_script(name).encode() in text:
                digest = sha1(text, usedforsecurity=False).hexdigest()
                self._digests[digest] = name


def _plain(name: str) -> str:
    """An end is one boundary, whether or not it brings more than its answer."""
    return "finish" if name == "finish_plain" else name


class _Connection:
    """One connection through the proxy."""

    def __init__(self, proxy: RedisProxy) -> None:
        self._proxy = proxy
        self._held: Side | None = None
        self._popping = False

    async def forward_commands(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                raw, command = await _read_command(reader)
                self._popping = command[0].upper().decode() in _POPS
                side = None if self._popping else self._proxy.side_of(command)
                if side == "before":
                    self._proxy.reached.set()
                    await asyncio.Event().wait()
                self._held = side
                await self._proxy.open.wait()
                writer.write(raw)
                await writer.drain()
        finally:
            writer.close()

    async def forward_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            if self._popping and not chunk.startswith(b"*-1"):
                self._held = self._proxy.side_of([b"BRPOP"])
            if self._held == "after":
                self._proxy.reached.set()
                await asyncio.Event().wait()
            await self._proxy.open.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    head = await reader.readuntil(b"\r\n")
    raw, parts = [head], []
    for _ in range(int(head[1:])):
        size = await reader.readuntil(b"\r\n")
        part = await reader.readexactly(int(size[1:]) + 2)
        raw += [size, part]
        parts.append(part[:-2])
    return b"".join(raw), parts
