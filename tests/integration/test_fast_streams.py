"""A fast stream is read in gatherings; nothing of it is lost, late or left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from tests.integration.canned import delta, events
from tests.integration.llm_serving import ASKED, provider_at
from tests.integration.odd_server import SSE as SSE_FIELD
from tests.integration.odd_server import provider_of, server
from tests.integration.test_endpoint_bodies import SSE, head, raw_server
from workers.errors import LLMError, StreamTruncated
from workers.llm import gathering, stream
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.gathering import GATHER_SECONDS
from workers.llm.provider import Completion

COUNT = 500
END = (events(delta("stop")).body or "").encode()


def token(number: int) -> bytes:
    return f'data: {{"choices":[{{"delta":{{"content":"{number} "}}}}]}}\n\n'.encode()


def text_of(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


async def send(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    writer.write(b"".join(parts))
    await writer.drain()


async def send_fast(writer: asyncio.StreamWriter, count: int) -> None:
    """Send a piece with each turn of the loop, once the stream has some age."""
    await asyncio.sleep(2 * GATHER_SECONDS)
    for number in range(count):
        await send(writer, token(number))
        await asyncio.sleep(0)


@asynccontextmanager
async def asking(
    sending: Callable[[asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[ChatCompletionsProvider]:
    """Give a provider whose endpoint answers with a stream that is sent so."""
    async with (
        raw_server(head(SSE), b"", after=sending) as url,
        provider_at(url) as provider,
    ):
        yield provider


async def hear(provider: ChatCompletionsProvider, pieces: list[str]) -> Completion:
    async with aclosing(provider.stream(ASKED)) as stream:
        async for piece in stream:
            if isinstance(piece, Completion):
                return piece
            pieces.append(piece.text)
    raise AssertionError("no completion")


async def test_the_pieces_of_a_fast_stream_come_together_and_whole() -> None:
    async def talk(writer: asyncio.StreamWriter) -> None:
        await send_fast(writer, COUNT)
        await send(writer, END)

    pieces: list[str] = []
    async with asking(talk) as provider:
        completion = await hear(provider, pieces)
    assert "".join(pieces) == completion.message.content == text_of(COUNT)
    assert len(pieces) < COUNT / 4


async def test_the_first_piece_is_told_when_it_comes() -> None:
    """The server says nothing more until it was."""
    told = asyncio.Event()

    async def talk(writer: asyncio.StreamWriter) -> None:
        await send(writer, token(0))
        await told.wait()
        await send(writer, token(1), END)

    async with asking(talk) as provider, aclosing(provider.stream(ASKED)) as stream:
        async with asyncio.timeout(30):
            first = await anext(stream)
        told.set()
        rest = [piece async for piece in stream]
    assert not isinstance(first, Completion)
    assert first.text == "0 "
    assert isinstance(rest[-1], Completion)
    assert rest[-1].message.content == "0 1 "


async def test_a_fast_stream_that_breaks_off_is_told_with_what_came_before() -> None:
    async def talk(writer: asyncio.StreamWriter) -> None:
        await send_fast(writer, 10)

    pieces: list[str] = []
    async with asking(talk) as provider:
        with pytest.raises(StreamTruncated):
            await hear(provider, pieces)
    assert "".join(pieces) == text_of(10)


async def test_an_error_among_pieces_that_came_together_is_told_after_them() -> None:
    async def talk(writer: asyncio.StreamWriter) -> None:
        error = b'data: {"error": "out of memory"}\n\n'
        await send(writer, token(0), token(1), error, token(2), END)

    pieces: list[str] = []
    async with asking(talk) as provider:
        with pytest.raises(LLMError, match="out of memory"):
            await hear(provider, pieces)
    assert "".join(pieces) == "0 1 "


async def test_a_fast_stream_that_is_left_while_it_gathers_is_closed() -> None:
    left = asyncio.Event()

    async def talk(writer: asyncio.StreamWriter) -> None:
        try:
            await send_fast(writer, 10**9)
        finally:
            left.set()

    async with asking(talk) as provider:
        async with aclosing(provider.stream(ASKED)) as stream:
            for _ in range(3):
                await anext(stream)
            while True:
                waiting = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)  # what it does not wait for is there by now
                waiting.cancel()
                await asyncio.wait({waiting})
                if waiting.cancelled():
                    break
        async with asyncio.timeout(30):
            await left.wait()


async def test_what_is_gathered_is_not_the_end_of_a_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection would be waited for in vain, and the next call need another."""
    monkeypatch.setattr(gathering, "GATHER_SECONDS", 2.0)
    monkeypatch.setattr(gathering, "_SHARE", 1e6)
    monkeypatch.setattr(stream, "_DRAIN_SECONDS", 1.5)
    told, numbers = asyncio.Event(), []

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        numbers.append(number)
        body = token(0) + END
        fields = ("HTTP/1.1 200 OK", SSE_FIELD, "transfer-encoding: chunked", "", "")
        writer.write("\r\n".join(fields).encode() + b"%x\r\n%s\r\n" % (len(body), body))
        await told.wait()
        writer.write(b"0\r\n\r\n")
        return True

    async with (
        server(behave) as (port, _),
        provider_of(f"http://127.0.0.1:{port}/v1") as provider,
    ):
        for _ in range(2):
            async with aclosing(provider.stream(ASKED)) as pieces:
                await anext(pieces)
                told.set()
                assert isinstance(await anext(pieces), Completion)
            told.clear()
    assert numbers == [1, 2]
