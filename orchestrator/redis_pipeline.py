"""Commands of many coroutines in one round trip.

What comes while a pipeline is under way goes with the next one, so a busy process
writes and reads a socket once for dozens of runs. Redis answers each command for
itself; the order of the commands of one caller is kept.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.redis_connection import UntypedRedis

Command = Sequence[str | int]

LANES: Final = 2
"""Pipelines under way at once: one is with the server while the next one fills."""
MAX_COMMANDS: Final = 200
"""Of one pipeline; bounds how long the server is kept from other clients."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""What callers share one pipeline for: large ones must not use up each other's time."""


class _Sending(NamedTuple):
    commands: Sequence[bytes]
    size: int
    answers: asyncio.Future[list[Any]]


class SharedPipeline:
    """Sends commands through one client, on one event loop."""

    def __init__(self, client: Redis) -> None:
        self._client: UntypedRedis = client
        self._waiting: deque[_Sending] = deque()
        self._open_lanes = 0
        self._kept: list[AbstractConnection] = []
        self._lanes: set[asyncio.Task[None]] = set()

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers; one that Redis refused is its `ResponseError`.

        A caller that is cancelled does not call its commands back. Commands must be
        safe to repeat: a lost connection is made again, and they are sent again.

        Raises:
            RedisError, OSError: nothing is known of any of the commands.
            ValueError, TypeError: an argument cannot be written; nothing was sent.
        """
        # Here, so that what cannot be written is its caller's own error.
        packed = [
            pack_command(tuple(command))  # type: ignore[arg-type] # says: of one item
            for command in commands
        ]
        loop = asyncio.get_running_loop()
        sending = _Sending(packed, sum(map(len, packed)), loop.create_future())
        self._waiting.append(sending)
        if self._open_lanes < LANES:
            self._open_lanes += 1
            lane = loop.create_task(self._send_all())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await sending.answers

    async def _send_all(self) -> None:
        """Send until nothing waits.

        Nothing may be awaited between that finding and the lane being counted as
        closed: what comes then would be nobody's.
        """
        try:
            while batch := self._take():
                try:
                    connection = await self._connection()
                except BaseException as exc:
                    _fail(batch, exc)
                    if not isinstance(exc, Exception):
                        raise
                else:
                    await self._send_batch(connection, batch)
                    self._kept.append(connection)
        finally:
            self._open_lanes -= 1

    async def _connection(self) -> AbstractConnection:
        """Return a connection that no other lane uses.

        They are kept: giving one back to the pool and taking it again costs as much as
        a round trip. A lost one is made again when it is used; the client's end ends
        them.
        """
        if self._kept:
            return self._kept.pop()
        connection: AbstractConnection = (
            await self._client.connection_pool.get_connection()
        )
        return connection

    async def _send_batch(
        self, connection: AbstractConnection, batch: Sequence[_Sending]
    ) -> None:
        commands = [command for each in batch for command in each.commands]
        try:
            answers = await self._send(connection, commands)
        except BaseException as exc:
            _fail(batch, exc)
            if not isinstance(exc, Exception):
                raise
        else:
            _answer(batch, answers)

    def _take(self) -> list[_Sending]:
        """Take what fits into one pipeline and is still wanted."""
        batch: list[_Sending] = []
        count = size = 0
        while self._waiting:
            sending = self._waiting[0]
            count += len(sending.commands)
            size += sending.size
            if batch and (count > MAX_COMMANDS or size > MAX_BYTES):
                break
            self._waiting.popleft()
            if sending.answers.done():
                count -= len(sending.commands)
                size -= sending.size
            else:
                batch.append(sending)
        return batch

    async def _send(
        self, connection: AbstractConnection, commands: Sequence[bytes]
    ) -> list[Any]:
        async def attempt() -> list[Any]:
            return await _round_trip(connection, commands)

        async def disconnect(_: Exception) -> None:
            await connection.disconnect()

        answers: list[Any] = await connection.retry.call_with_retry(attempt, disconnect)
        return answers


async def _round_trip(
    connection: AbstractConnection, commands: Sequence[bytes]
) -> list[Any]:
    await connection.send_packed_command(commands)
    answers: list[Any] = []
    try:
        async with asyncio.timeout(connection.socket_timeout):
            for _ in commands:
                try:
                    # One time limit for all, not one for each: it costs more than
                    # the reading.
                    answers.append(await connection.read_response(timeout=math.inf))
                except ResponseError as exc:
                    answers.append(exc)
    except TimeoutError as exc:
        await connection.disconnect(nowait=True)
        raise RedisTimeoutError("Timeout reading from socket") from exc
    return answers


def _answer(batch: Sequence[_Sending], answers: Sequence[Any]) -> None:
    start = 0
    for sending in batch:
        end = start + len(sending.commands)
        if not sending.answers.done():
            sending.answers.set_result(list(answers[start:end]))
        start = end


def _fail(batch: Sequence[_Sending], error: BaseException) -> None:
    for sending in batch:
        if sending.answers.done():
            continue
        if isinstance(error, Exception):
            sending.answers.set_exception(error)
        else:
            sending.answers.cancel()
