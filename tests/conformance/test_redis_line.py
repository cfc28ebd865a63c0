"""What a line to Redis makes of servers and networks that behave badly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.redis_connection import connect, store_errors
from orchestrator.redis_line import READ_BYTES
from orchestrator.redis_pipeline import LANES, SharedPipeline
from tests.integration.redis_server import free_port

PING = b"*1\r\n$4\r\nPING\r\n"


class Peer:
    """One accepted connection, seen from the server."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer

    async def take(self, count: int = 1) -> None:
        """Read so many pings."""
        await self.reader.readexactly(len(PING) * count)

    async def greet(self) -> None:
        """Answer what redis-py says first: its name and its version."""
        for _ in range(2):
            for _ in range(9):  # *4, and a length and a text for each
                await self.reader.readline()
            self.writer.write(b"+OK\r\n")

    def say(self, data: bytes) -> None:
        self.writer.write(data)


Script = Callable[[Peer, int], Awaitable[None]]
"""Acts for the server on its nth connection; when it returns, that ends."""


@asynccontextmanager
async def scripted(
    script: Script, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[SharedPipeline, Redis]]:
    count = 0
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.IncompleteReadError, OSError):
            peer = Peer(reader, writer)
            await peer.greet()
            await script(peer, count)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    scheme, query = ("rediss", "?ssl_cert_reqs=none") if tls else ("redis", "")
    client = connect(f"{scheme}://127.0.0.1:{port}/0{query}", **options)
    try:
        yield SharedPipeline(client), client
    finally:
        await client.aclose()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ping(pipeline: SharedPipeline, count: int = 1) -> list[Any]:
    return await pipeline.execute([("PING",)] * count)


async def forever(peer: Peer) -> None:
    while True:
        await peer.take()
        peer.say(b"+PONG\r\n")


async def test_answers_in_any_pieces_are_put_together() -> None:
    long = b"$%d\r\n%s\r\n" % (3 * READ_BYTES, b"x" * 3 * READ_BYTES)
    said = b"+ONE\r\n*2\r\n$2\r\n\xc3\xa9\r\n:7\r\n" + long + b"-ERR no\r\n$-1\r\n"

    async def script(peer: Peer, _: int) -> None:
        await peer.take(5)
        for place in range(40):
            peer.say(said[place : place + 1])
            await asyncio.sleep(0)
        peer.say(said[40:])
        await peer.reader.read()

    async with scripted(script) as (pipeline, _):
        one, two, three, error, none = await ping(pipeline, 5)
    assert (one, two, none) == ("ONE", ["é", 7], None)
    assert len(three) == 3 * READ_BYTES
    assert isinstance(error, ResponseError)


async def test_an_answer_is_given_before_the_rest_of_its_batch_has_come() -> None:
    rest = asyncio.Event()

    async def script(peer: Peer, _: int) -> None:
        await peer.take(3)
        peer.say(b"+A\r\n+B\r\n")
        await rest.wait()
        peer.say(b"+C\r\n")
        await peer.reader.read()

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        callers = [asyncio.create_task(ping(pipeline)) for _ in range(3)]
        assert await asyncio.gather(*callers[:2]) == [["A"], ["B"]]
        rest.set()
        assert await callers[2] == ["C"]


async def test_what_a_lost_connection_left_unanswered_is_sent_again() -> None:
    async def script(peer: Peer, number: int) -> None:
        if number > 1:
            await forever(peer)
        await peer.take(4)
        peer.say(b"+ONCE\r\n+HALF\r\n$4\r\nPO")
        await peer.writer.drain()

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        first, second, third = await asyncio.gather(
            ping(pipeline), ping(pipeline, 2), ping(pipeline)
        )
    assert first == ["ONCE"]
    assert (second, third) == (["PONG", "PONG"], ["PONG"])


async def test_a_connection_that_ended_while_idle_costs_nobody_an_error() -> None:
    ended = asyncio.Event()

    async def script(peer: Peer, number: int) -> None:
        await peer.take()
        peer.say(b"+PONG\r\n")
        if number > 1:
            await forever(peer)
        await peer.writer.drain()
        ended.set()

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        assert await ping(pipeline) == ["PONG"]
        await ended.wait()
        assert await ping(pipeline) == ["PONG"]


async def test_callers_are_told_when_no_connection_holds() -> None:
    async def script(peer: Peer, _: int) -> None:
        await peer.take()

    async with scripted(script) as (pipeline, _), asyncio.timeout(30):
        told = await asyncio.gather(
            *(ping(pipeline) for _ in range(3)), return_exceptions=True
        )
    assert [type(each) for each in told] == [RedisConnectionError] * 3


async def test_silence_ends_in_time_and_is_not_asked_again() -> None:
    connections = []

    async def script(peer: Peer, number: int) -> None:
        connections.append(number)
        if number > 1:
            await forever(peer)
        await peer.take(2)
        peer.say(b"+PONG\r\n")
        await peer.reader.read()

    limit = {"command_timeout_seconds": 1.0}
    async with scripted(script, **limit) as (pipeline, _), asyncio.timeout(20):
        first = asyncio.create_task(ping(pipeline))
        second = asyncio.create_task(ping(pipeline))
        assert await first == ["PONG"]
        with pytest.raises(RedisTimeoutError):
            await second
        assert connections == [1]
        assert await ping(pipeline) == ["PONG"]


async def test_a_loading_server_is_asked_again_on_a_new_connection() -> None:
    async def script(peer: Peer, number: int) -> None:
        await peer.take()
        if number == 1:
            peer.say(b"-LOADING Redis is loading the dataset in memory\r\n")
            await peer.reader.read()
        peer.say(b"+PONG\r\n")
        await forever(peer)

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        assert await ping(pipeline) == ["PONG"]


async def test_a_server_that_goes_on_loading_is_told_as_that() -> None:
    async def script(peer: Peer, _: int) -> None:
        while True:
            await peer.take()
            peer.say(b"-LOADING Redis is loading the dataset in memory\r\n")

    async with scripted(script) as (pipeline, _), asyncio.timeout(30):
        with pytest.raises(BusyLoadingError):
            await ping(pipeline)


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+A\r\n?\r\n"])
async def test_what_is_no_redis_is_told_as_that(noise: bytes) -> None:
    async def script(peer: Peer, _: int) -> None:
        await peer.take(2)
        peer.say(noise)
        await peer.reader.read()

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        with pytest.raises(InvalidResponse):
            await ping(pipeline, 2)


async def test_what_nobody_asked_is_nobodys_answer() -> None:
    async def script(peer: Peer, number: int) -> None:
        await peer.take()
        peer.say(b"+PONG\r\n")
        if number == 1:
            peer.say(b"+STRANGER\r\n")
            await peer.reader.read()  # ends when the client has left
        await forever(peer)

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        for _ in range(5):
            assert await ping(pipeline) == ["PONG"]
            await asyncio.sleep(0)


async def test_an_answer_that_is_no_text_is_its_askers_own_trouble() -> None:
    async def script(peer: Peer, _: int) -> None:
        await peer.take(3)
        peer.say(b"+A\r\n*2\r\n$2\r\n\xff\xfe\r\n$1\r\nb\r\n+C\r\n")
        await peer.reader.read()

    async with scripted(script) as (pipeline, _), asyncio.timeout(20):
        a, b, c = await asyncio.gather(*(ping(pipeline) for _ in range(3)))
    assert (a, c) == (["A"], ["C"])
    assert isinstance(b[0], UnicodeDecodeError)


async def test_a_line_over_tls_works_as_any_other(certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    size = 5 * READ_BYTES

    async def script(peer: Peer, number: int) -> None:
        if number > 1:
            await forever(peer)
        await peer.take(2)
        peer.say(b"$%d\r\n%s\r\n+B\r\n" % (size, b"x" * size))
        await peer.take()

    async with scripted(script, tls=context) as (pipeline, _), asyncio.timeout(30):
        large, small = await ping(pipeline, 2)
        assert (len(large), small) == (size, "B")
        assert await ping(pipeline) == ["PONG"]  # the first connection is lost by it


async def test_a_client_that_is_closed_waits_for_no_line() -> None:
    async def script(peer: Peer, _: int) -> None:
        await forever(peer)

    async with scripted(script) as (pipeline, client):
        assert await ping(pipeline) == ["PONG"]
        async with asyncio.timeout(1.5):  # redis-py waits 2 s for a lost end
            await client.aclose()


async def test_callers_of_one_round_trip_are_each_told_the_reason() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    pipeline = SharedPipeline(client)

    async def call() -> None:
        with store_errors("here"):
            await ping(pipeline)

    errors = await asyncio.gather(*(call() for _ in range(3)), return_exceptions=True)
    await client.aclose()
    assert len({str(error) for error in errors}) == 1
    assert "Connection refused" in str(errors[0])


async def test_nothing_asked_is_nothing_answered() -> None:
    async def script(peer: Peer, _: int) -> None:
        await forever(peer)

    async with scripted(script) as (pipeline, _):
        answers = await asyncio.gather(pipeline.execute([]), ping(pipeline))
    assert answers == [[], ["PONG"]]


async def test_no_connection_is_made_for_callers_who_have_gone() -> None:
    connections: list[int] = []
    lost = asyncio.Event()

    async def script(peer: Peer, number: int) -> None:
        connections.append(number)
        await peer.take()
        await lost.wait()

    async with scripted(script) as (pipeline, _):
        call = asyncio.create_task(ping(pipeline))
        async with asyncio.timeout(10):
            while not connections:
                await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait({call})
        lost.set()
        async with asyncio.timeout(10):
            while len(pipeline._idle) < LANES:
                await asyncio.sleep(0.01)
    assert connections == [1]
