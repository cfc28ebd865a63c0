"""What stands on the wire of a request, and what becomes of its connection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from pydantic import SecretStr

from orchestrator.trace_context import carry
from workers.errors import InvalidEndpoint
from workers.llm.endpoint import CallLimits, Endpoint
from workers.llm.endpoint_client import EndpointClient

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER_TRACE = f"00-{'c' * 32}-{'d' * 16}-01"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Ask = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def served(answer: Answer, **headers: SecretStr) -> AsyncIterator[Ask]:
    """Yield what asks a server whose every connection is answered so."""
    served_by: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            served_by.add(task)
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}/v1", headers=headers)
    async with server, aclosing(EndpointClient(endpoint, CallLimits())) as client:

        async def ask(body: bytes) -> bytes:
            url = f"{endpoint.base_url}/chat/completions"
            sent = await client.post_json(url, lambda: body)
            try:
                return await sent.body.read()
            finally:
                await sent.aclose()

        yield ask
        await client.aclose()
        await asyncio.gather(*served_by)


async def request_of(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    length = next(
        int(line.partition(":")[2])
        for line in head
        if line.lower().startswith("content-length:")
    )
    return head[:-2], await reader.readexactly(length)


async def lines_sent(**headers: str) -> list[str]:
    """Return the head of a request to an endpoint with these headers."""
    lines: list[str] = []

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head, body = await request_of(reader)
        assert body == b'{"a":1}'
        lines.extend(head)
        writer.write(OK)

    given = {name.replace("_", "-"): SecretStr(headers[name]) for name in headers}
    async with served(answer, **given) as ask:
        await ask(b'{"a":1}')
    return lines


async def test_a_request_says_once_what_it_is_and_how_long():
    lines = await lines_sent(x_team="one", content_length="5", accept="text/plain")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    names = [line.partition(":")[0].lower() for line in lines[1:]]
    assert len(names) == len(set(names))
    told = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert told["host"].startswith("127.0.0.1:")
    assert told["content-length"] == "7"
    assert told["content-type"] == "application/json"
    assert told["x-team"] == "one"
    assert told["accept"] == "text/plain"


async def test_the_trace_of_a_run_goes_before_a_configured_one():
    assert f"traceparent: {OTHER_TRACE}" in await lines_sent(traceparent=OTHER_TRACE)
    carry(TRACE)
    lines = await lines_sent(traceparent=OTHER_TRACE)
    assert [line for line in lines if line.startswith("traceparent")] == [
        f"traceparent: {TRACE}"
    ]


async def test_who_waits_for_an_answer_no_longer_holds_the_last_one():
    kept: list[int] = []

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await request_of(reader)
            kept.append(sum(type(o) is aiohttp.StreamReader for o in gc.get_objects()))
            writer.write(OK)

    async with served(answer) as ask:
        await ask(b"{}")
        await ask(b"{}")
    first, second = kept
    assert second <= first


async def test_a_head_that_only_says_go_on_is_no_answer():
    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + OK)

    async with served(answer) as ask:
        assert await ask(b"{}") == b"{}"


async def test_a_connection_serves_one_request_after_another():
    connections = 0

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal connections
        connections += 1
        while True:
            await request_of(reader)
            writer.write(OK)

    async with served(answer) as ask:
        assert [await ask(b"{}") for _ in range(3)] == [b"{}"] * 3
    assert connections == 1


async def test_an_answer_before_the_request_has_left_ends_its_connection():
    """The rest of the body would be taken for the next request."""
    connections = 0

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        while await reader.read(1 << 16):
            pass

    async with served(answer) as ask:
        assert await ask(b" " * (64 << 20)) == b"{}"
        assert await ask(b"{}") == b"{}"
    assert connections == 2


async def test_a_cancelled_request_closes_its_connection():
    asked_for, closed = asyncio.Event(), asyncio.Event()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await request_of(reader)
        asked_for.set()
        await reader.read()
        closed.set()

    async with served(answer) as ask:
        asking = asyncio.create_task(ask(b"{}"))
        await asked_for.wait()
        asking.cancel()
        await asyncio.wait_for(closed.wait(), timeout=10)
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("name", ["x-a\r\nx-b", "x-ü", "", "x a", "x:a"])
def test_a_header_that_could_be_another_is_refused(name: str):
    with pytest.raises(InvalidEndpoint, match="no name of a header"):
        Endpoint(base_url="http://127.0.0.1/v1", headers={name: SecretStr("1")})
