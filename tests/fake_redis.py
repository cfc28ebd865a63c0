"""A client on a Redis made of Python in this process, for many short tests.

fakeredis gives answers as values; a line of ours reads bytes from a transport.
"""

from __future__ import annotations

import asyncio
from typing import Any

import fakeredis
from fakeredis._clients._tcp_server import encode_reply
from redis.asyncio import Redis


def fake_redis() -> Redis:
    """Return a client of a fake server of its own."""
    return fakeredis.FakeAsyncRedis(
        server=fakeredis.FakeServer(),
        decode_responses=True,
        connection_class=_Connection,
    )


class _Connection(fakeredis.aioredis.FakeAsyncRedisConnection):
    async def _connect(self) -> None:
        await super()._connect()
        assert self._writer is not None
        self._writer.transport = _Transport(self._sock)


class _Transport(asyncio.Transport):
    """Carries bytes to a fake socket, and what it answers back as bytes."""

    def __init__(self, socket: Any) -> None:
        super().__init__()
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = asyncio.Protocol()

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def write(self, data: Any) -> None:
        self._socket.sendall(data)
        self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        answers = bytearray()
        while not self._socket.responses.empty():
            answers += encode_reply(self._socket.responses.get_nowait(), 2)
        while answers:
            buffer = self._protocol.get_buffer(-1)
            size = min(len(answers), len(buffer))
            buffer[:size] = answers[:size]
            del answers[:size]
            self._protocol.buffer_updated(size)

    def abort(self) -> None:
        self._loop.call_soon(self._protocol.connection_lost, None)
