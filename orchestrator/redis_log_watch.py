"""Waits on any number of event logs with one connection.

A blocking read for each viewer would take a connection each. Here one read blocks on
all watched logs; a new viewer ends it early, so that its log is read too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError

from orchestrator.redis_connection import BLOCK_SLICE_SECONDS, UntypedRedis
from orchestrator.task_record import milliseconds

GATHER_SECONDS_PER_LOG = 20e-6
"""A read of n logs costs n; the pause before the next one keeps its share low."""
LONGEST_GATHER_SECONDS = 0.01
UNBLOCK_AGAIN_SECONDS = 0.005
UNAIDED_SLICE_SECONDS = 0.05
"""A server that cannot end a blocking read early (fakeredis) blocks so long only."""


class LogWatch:
    """Tells when logs grow. Belongs to one event loop."""

    def __init__(self, client: UntypedRedis) -> None:
        self._client = client
        self._waiters: dict[str, dict[asyncio.Future[None], int]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._connection_id: int | None = None
        self._reading: set[str] = set()
        self._unblocking: asyncio.Task[None] | None = None

    async def wait(self, key: str, last: int, *, seconds: float) -> None:
        """Return when the log may have an entry beyond number `last`, or time is up.

        Raises:
            RedisError: the connection was lost.
        """
        grown = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, {})[grown] = last
        self._look_again()
        try:
            async with asyncio.timeout(seconds):
                await grown
        except TimeoutError:
            pass
        finally:
            self._forget(key, grown)

    async def aclose(self) -> None:
        """Stop reading, also where redis-py swallows the cancel."""
        self._waiters.clear()
        for task in (self._unblocking, self._reader):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _forget(self, key: str, grown: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(key, {})
        waiters.pop(grown, None)
        if not waiters:
            self._waiters.pop(key, None)

    def _look_again(self) -> None:
        """Have the reader see a new waiter."""
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        elif self._connection_id is not None and (
            self._unblocking is None or self._unblocking.done()
        ):
            self._unblocking = asyncio.create_task(self._unblock(self._connection_id))

    async def _unblock(self, connection_id: int) -> None:
        """End the read that misses a log; again, if it had not yet blocked."""
        with suppress(RedisError):
            while self._reading and not self._waiters.keys() <= self._reading:
                await self._client.execute_command("CLIENT UNBLOCK", connection_id)
                await asyncio.sleep(UNBLOCK_AGAIN_SECONDS)

    async def _read(self) -> None:
        """Read while anyone waits; a lost connection is every waiter's error."""
        try:
            while self._waiters:  # some may come while the connection is given back
                await self._read_on_one_connection()
        except RedisError as exc:
            for waiters in self._waiters.values():
                for grown in waiters:
                    if not grown.done():
                        grown.set_exception(exc)
        finally:
            self._connection_id = None

    async def _read_on_one_connection(self) -> None:
        async with self._client.client() as connection:
            slice_seconds = await self._prepare(connection)
            while self._waiters:
                await self._read_once(connection, slice_seconds)

    async def _prepare(self, connection: UntypedRedis) -> float:
        try:
            self._connection_id = int(await connection.client_id())
        except RedisError:
            return UNAIDED_SLICE_SECONDS
        return BLOCK_SLICE_SECONDS

    async def _read_once(self, connection: UntypedRedis, slice_seconds: float) -> None:
        logs = {
            key: f"0-{min(waiters.values())}" for key, waiters in self._waiters.items()
        }
        self._reading = set(logs)
        try:
            answer = await connection.xread(
                logs, count=1, block=milliseconds(slice_seconds)
            )
        finally:
            self._reading = set()
        for key, _ in answer or ():
            for grown in self._waiters.pop(key, {}):
                if not grown.done():
                    grown.set_result(None)
        await asyncio.sleep(
            min(LONGEST_GATHER_SECONDS, len(logs) * GATHER_SECONDS_PER_LOG)
        )
