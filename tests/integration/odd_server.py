"""A server that sends bytes as they stand, and what comes of calls to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from traceback import TracebackException
from typing import Any

from pydantic import SecretStr

from tests.integration.canned import delta, events
from tests.integration.llm_serving import KEY, ask
from workers.errors import LLMError
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoint import CallLimits, Endpoint

Behaviour = Callable[[asyncio.StreamWriter, int], Awaitable[bool]]
"""Answers the n-th request of a connection; False closes it."""
JSON, SSE = "content-type: application/json", "content-type: text/event-stream"
DONE = (events(delta(content="hi"), delta("stop")).body or "").encode()


def document(**fields: Any) -> bytes:
    choice = {"message": {"content": "hi"}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], **fields}).encode()


WHOLE = document()


def answer(
    body: bytes, *fields: str, status: str = "200 OK", version: str = "1.1"
) -> bytes:
    """An answer; its length is told unless the fields say how it ends."""
    ends = any("transfer-encoding" in each or "close" in each for each in fields)
    length = () if ends or version == "1.0" else (f"content-length: {len(body)}",)
    head = "\r\n".join((f"HTTP/{version} {status}", *fields, *length, "", ""))
    return head.encode() + body


@asynccontextmanager
async def server(
    behave: Behaviour, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Yield the port and the heads of what was asked."""
    heads: list[bytes] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        number = 0
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                size = int(head.lower().split(b"content-length:")[1].split()[0])
                await reader.readexactly(size)
                number += 1
                if not await behave(writer, number):
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    running = await asyncio.start_server(serve, host, 0)
    try:
        yield running.sockets[0].getsockname()[1], heads
    finally:
        running.close()
        async with asyncio.timeout(30):
            await asyncio.gather(*serving)  # they end when the client has left


def sending(raw: bytes) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(raw)
        return False

    return behave


@asynccontextmanager
async def provider_of(
    url: str, limits: CallLimits | None = None
) -> AsyncIterator[ChatCompletionsProvider]:
    endpoint = Endpoint(base_url=url, api_key=SecretStr(KEY))
    provider = ChatCompletionsProvider(endpoint, model="m", limits=limits)
    try:
        yield provider
    finally:
        await provider.aclose()


async def outcome(
    behave: Behaviour,
    stream: bool,
    calls: int = 1,
    limits: CallLimits | None = None,
) -> list[object]:
    """Return what each call came to: the text, or the error."""
    found: list[object] = []
    async with (
        server(behave) as (port, _),
        provider_of(f"http://127.0.0.1:{port}/v1", limits) as provider,
    ):
        for _ in range(calls):
            try:
                found.append((await ask(provider, stream)).message.content)
            except LLMError as exc:
                found.append(type(exc))
                told = held_by(exc)
                assert KEY[:-1] not in told
    return found


def held_by(error: LLMError) -> str:
    """Return all that an error and those that it came from hold."""
    links: list[BaseException] = [error]
    for link in links:
        links += [each for each in (link.__cause__, link.__context__) if each]
    shown = (
        TracebackException.from_exception(each, capture_locals=True) for each in links
    )
    held = [line for each in shown for line in each.format()]
    return "".join([*held, *(repr(vars(each)) for each in links)])
