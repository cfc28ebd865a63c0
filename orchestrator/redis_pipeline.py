"""Commands of many coroutines in one round trip.

What comes while a batch is under way goes with the next one, so a busy process writes
and reads a socket once for dozens of runs. Redis answers each command for itself; the
order of commands is kept for a caller who awaits each before the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from orchestrator.errors import WrongLoop
from orchestrator.redis_connection import UntypedRedis
from orchestrator.redis_joint import Head, JoinableSending, joined
from orchestrator.redis_line import RedisLine, Sending

Command = Sequence[str | int]

LANES: Final = 2
"""Batches under way at once: one is with the server while the next one fills."""
MAX_COMMANDS: Final = 200
"""Of one batch; bounds how long the server is kept from other clients."""
WEIGHT_OF_JOINABLE: Final = 12
"""Of a call that may be one with others, so that a batch holds sixteen.

They are short, and Redis sends no answer before it has done all that it read at once:
with more of them the worker waits while Redis works, and Redis while the worker does.
"""
MAX_BYTES: Final = 4 * 1024 * 1024
"""What callers share one batch for: large ones must not use up each other's time."""


class SharedPipeline:
    """Sends commands through one client, on one event loop."""

    def __init__(self, client: Redis) -> None:
        self._waiting: deque[Sending] = deque()
        self._idle = [_Lane(client, self) for _ in range(LANES)]
        self._is_called = False
        self._is_lonely = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers; one that Redis refused is its `ResponseError`.

        A caller that is cancelled does not call its commands back. Commands must be
        safe to repeat: a lost connection is made again, and they are sent again.

        Raises:
            RedisError, OSError: nothing is known of any of the commands.
            ValueError, TypeError: an argument cannot be written; nothing was sent.
            WrongLoop: it was used on another event loop before; nothing was sent.
        """
        return await self.send(commands) if commands else []

    def send(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Send some; what `execute` returns or raises is there when it is awaited.

        But for what cannot be sent, which is raised here.
        """
        # Here, so that what cannot be written is its caller's own error.
        packed = [
            pack_command(tuple(command))  # type: ignore[arg-type] # says: of one item
            for command in commands
        ]
        return self._accept(Sending(packed, self._own_loop().create_future()))

    def send_joint(
        self, head: Head, own: Sequence[str | int]
    ) -> asyncio.Future[list[Any]]:
        """Send a call that may be one with those of others with the same head.

        What comes back is one answer, this caller's.
        """
        answered: asyncio.Future[list[Any]] = self._own_loop().create_future()
        return self._accept(JoinableSending(head, own, answered))

    def _accept(self, sending: Sending) -> asyncio.Future[list[Any]]:
        if self._is_lonely and self._idle and not self._waiting:
            self._idle.pop().carry(joined([sending]))
            return sending.answered
        self._waiting.append(sending)
        if self._idle and not self._is_called:  # others may follow in this turn
            self._is_called = True
            asyncio.get_running_loop().call_soon(self._hand_out)
        return sending.answered

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._belong_to(loop)
        return loop

    def _belong_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            raise WrongLoop
        self._loop = loop

    def take_back(self, lane: _Lane) -> None:
        """Have a lane serve those who wait."""
        self._idle.append(lane)
        self._hand_out()

    def _hand_out(self) -> None:
        self._is_called = False
        while self._idle and (batch := self._take()):
            # Where callers come one by one, the next is served before its turn ends.
            self._is_lonely = len(batch) == 1 and not self._waiting
            self._idle.pop().carry(joined(batch))

    def _take(self) -> list[Sending]:
        """Take what fits into one batch and is still wanted."""
        batch: list[Sending] = []
        count = size = 0
        while self._waiting:
            sending = self._waiting[0]
            count += len(sending.commands) or WEIGHT_OF_JOINABLE
            size += sending.size
            if batch and (count > MAX_COMMANDS or size > MAX_BYTES):
                break
            self._waiting.popleft()
            if sending.is_done():
                count -= len(sending.commands) or WEIGHT_OF_JOINABLE
                size -= sending.size
            else:
                batch.append(sending)
        return batch


class _Lane:
    """Carries one batch at a time over a connection that no other lane uses.

    The connection is kept: giving it back to the pool and taking it again costs as much
    as a round trip. A lost one is made again when it is used; the client's end ends it.
    """

    def __init__(self, client: Redis, pipeline: SharedPipeline) -> None:
        self._client: UntypedRedis = client
        self._pipeline = pipeline
        self._connection: AbstractConnection | None = None
        self._line: RedisLine | None = None
        self._batch: list[Sending] = []
        self._repair: asyncio.Task[None] | None = None
        self._awaited: asyncio.Future[None] | None = None

    def carry(self, batch: list[Sending]) -> None:
        """Send a batch; the lane comes back to its pipeline when all is answered."""
        self._batch = batch
        if self._line is not None and self._line.is_open:
            self._line.send(batch)
        else:
            self._begin_repair()

    def _ended(self, error: Exception | None) -> None:
        awaited = self._awaited
        if awaited is not None:
            _tell(awaited, error)
        elif isinstance(error, RedisConnectionError):
            self._begin_repair()
        else:
            self._finish(error)

    def _begin_repair(self) -> None:
        self._repair = asyncio.get_running_loop().create_task(self._connect_and_send())
        self._repair.add_done_callback(self._repaired)

    def _repaired(self, repair: asyncio.Task[None]) -> None:
        self._repair = self._awaited = None
        if repair.cancelled():
            for sending in self._batch:
                sending.drop()
        self._finish(None if repair.cancelled() else repair.exception())

    def _finish(self, error: BaseException | None) -> None:
        if error is not None:
            for sending in self._batch:
                sending.fail(error)
        self._batch = []
        self._pipeline.take_back(self)

    async def _connect_and_send(self) -> None:
        """Send what is not answered, as often as redis-py connects again."""
        if self._connection is None:
            pool = self._client.connection_pool
            self._connection = await pool.get_connection()
        connection = self._connection

        async def attempt() -> None:
            left = [each for each in self._batch if not each.is_done()]
            if not left:  # a closed client would log in again for nobody
                return
            if self._line is None or not self._line.is_open:
                self._line = await self._new_line(connection)
            for sending in left:
                sending.answers.clear()
            await self._send(self._line, left)

        async def disconnect(_: Exception) -> None:
            await connection.disconnect(nowait=True)

        await connection.retry.call_with_retry(attempt, disconnect)

    async def _new_line(self, connection: AbstractConnection) -> RedisLine:
        if self._line is not None:
            await connection.disconnect(nowait=True)
        await connection.connect_check_health(check_health=False)
        return RedisLine(connection, ended=self._ended)

    async def _send(self, line: RedisLine, batch: list[Sending]) -> None:
        self._awaited = asyncio.get_running_loop().create_future()
        try:
            line.send(batch)
            await self._awaited
        except asyncio.CancelledError:
            line.abort()
            raise
        finally:
            self._awaited = None


def _tell(awaited: asyncio.Future[None], error: Exception | None) -> None:
    if awaited.done():
        return
    if error is None:
        awaited.set_result(None)
    else:
        awaited.set_exception(error)
