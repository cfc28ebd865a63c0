"""Bodies as the network and proxies bring them: compressed, cut, endless."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from tests.integration.canned import delta, events, whole
from tests.integration.llm_serving import ASKED, ask, provider_at, streaming
from workers.errors import (
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    StreamTruncated,
)
from workers.llm.body import pieces_of
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoint import CallLimits
from workers.llm.provider import Completion

WHOLE = (whole({"content": "hello"}).body or "").encode()
STREAM = (events(delta(content="he"), delta("stop", content="llo")).body or "").encode()
JSON, SSE = "application/json", "text/event-stream"
Writer = Callable[[asyncio.StreamWriter], object]


@asynccontextmanager
async def raw_server(
    head: str, body: bytes | None, *, after: Writer | None = None
) -> AsyncIterator[str]:
    """Answers every request with these bytes; the head is not ended without a body."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}".encode())
        if body is not None:
            writer.write(b"\r\nConnection: close\r\n\r\n" + body)
        try:
            await writer.drain()
            if after is not None:
                await after(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*serving)  # they end when the client has left


async def asked(
    head: str, body: bytes | None, *, after: Writer | None = None, **limits: float
) -> Completion:
    async with raw_server(head, body, after=after) as url:
        provider = ChatCompletionsProvider(url, model="m", limits=CallLimits(**limits))
        try:
            return await ask(provider, stream=True)
        finally:
            await provider.aclose()


def head(content_type: str = JSON, encoding: str = "", status: str = "200 OK") -> str:
    lines = [status, f"Content-Type: {content_type}" if content_type else ""]
    lines += [f"Content-Encoding: {encoding}" if encoding else ""]
    return "\r\n".join(filter(None, lines))


def bare_deflate(data: bytes) -> bytes:
    """Without zlib's envelope, as some servers understand `deflate`."""
    return zlib.compress(data, wbits=-15)


def gzip_members(data: bytes) -> bytes:
    """One for each byte, and padding, as RFC 1952 and `gzip` allow."""
    members = [gzip.compress(bytes([each])) for each in data]
    return b"".join(members) + bytes(512)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("gzip", gzip_members),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_proxy_that_compresses_unasked_is_understood(
    encoding: str, compress: Callable[[bytes], bytes], stream: bool
):
    kind, body = (SSE, STREAM) if stream else (JSON, WHOLE)
    answer = await asked(head(kind, encoding), compress(body))
    assert answer.message.content == "hello"


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, bare_deflate])
@pytest.mark.parametrize("more", range(-1, 12))
async def test_text_that_fills_a_piece_is_whole(
    compress: Callable[[bytes], bytes], more: int
) -> None:
    """zlib may hold back some of it although it has taken all that there was."""
    text = b"a" * (64 * 1024 + more)

    async def chunks() -> AsyncIterator[bytes]:
        yield compress(text)

    encoding = "gzip" if compress is gzip.compress else "deflate"
    pieces = [each async for each in pieces_of(chunks(), encoding)]
    assert b"".join(pieces) == text


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_members_of_a_body_may_begin_anywhere(size: int) -> None:
    body = gzip_members(WHOLE)

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    pieces = [each async for each in pieces_of(chunks(), "gzip")]
    assert b"".join(pieces) == WHOLE


@pytest.mark.parametrize("kind", [JSON, SSE])
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
async def test_an_encoding_nobody_asked_for_is_named(kind: str, encoding: str):
    with pytest.raises(MalformedCompletion, match="compressed"):
        await asked(head(kind, encoding), gzip.compress(WHOLE))


BOMB = b" " * 256 * 1024 * 1024


@pytest.mark.parametrize("kind", [JSON, SSE])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_bomb_is_cut_off_in_little_memory(kind: str, encoding: str):
    """Others (br, zstd) are not unpacked at all; see the test above."""
    bomb = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](BOMB)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedCompletion, match="more than"):
            await asked(head(kind, encoding), bomb, max_bytes=1024 * 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


async def test_a_compressed_bomb_as_an_error_body_is_cut_off_too():
    bomb = gzip.compress(b"x" * 128 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(LLMUnavailable, match="HTTP 500") as caught:
            await asked(head(JSON, "gzip", "500 No"), bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
    assert len(caught.value.body) <= 2048


@pytest.mark.parametrize(
    ("kind", "body", "leaf"),
    [
        (JSON, gzip.compress(WHOLE, mtime=0)[:-20], MalformedCompletion),
        (JSON, b"not gzip at all", MalformedCompletion),
        (SSE, gzip.compress(STREAM[:60], mtime=0)[:-12], StreamTruncated),
        (SSE, b"not gzip at all", StreamTruncated),
    ],
)
async def test_a_compressed_body_that_is_broken_is_no_answer(
    kind: str, body: bytes, leaf: type[LLMError]
):
    with pytest.raises(leaf):
        await asked(head(kind, "gzip"), body)


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", b"not gzip at all", "not gzip"),
        ("deflate", WHOLE, "not deflate"),
        ("gzip", gzip.compress(WHOLE, mtime=0)[:-20], "broke off"),
        ("deflate", bare_deflate(WHOLE)[:-5], "broke off"),
        ("deflate", b"", "broke off"),
    ],
)
async def test_a_compressed_document_that_is_broken_is_told_by_what_it_is(
    encoding: str, body: bytes, words: str
):
    with pytest.raises(MalformedCompletion, match=words):
        await asked(head(JSON, encoding), body)


@pytest.mark.parametrize("body", [WHOLE, STREAM, b"\xef\xbb\xbf" + STREAM])
async def test_an_answer_without_a_content_type_is_looked_at(body: bytes):
    assert (await asked(head(""), body)).message.content == "hello"


@pytest.mark.parametrize("body", [b"", b"hello", b"<html/>", b"[]"])
async def test_what_has_no_type_and_is_no_answer_is_malformed(body: bytes):
    with pytest.raises((MalformedCompletion, StreamTruncated)):
        await asked(head(""), body)


async def test_a_server_that_talks_on_after_done_is_left():
    async def talk(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b": still here\n\n" * 1000)
            await writer.drain()
            await asyncio.sleep(0.001)

    answer = await asked(head(SSE), STREAM, after=talk, max_bytes=10_000_000)
    assert answer.message.content == "hello"


FINISHED = (events(delta("stop", content="hello"), done=False).body or "").encode()


@pytest.mark.parametrize("more", [b"", b"data: [DONE]", b": still here\n\n"])
async def test_a_server_that_says_its_finish_and_no_more_has_answered(more: bytes):
    heard = asyncio.Event()

    async def keep(writer: asyncio.StreamWriter) -> None:
        writer.write(more)
        await heard.wait()

    async with raw_server(head(SSE), FINISHED, after=keep) as url:
        limits = CallLimits(idle_seconds=0.2)
        provider = ChatCompletionsProvider(url, model="m", limits=limits)
        answer = await ask(provider, stream=True)
        heard.set()
        await provider.aclose()
    assert answer.message.content == "hello"


@pytest.mark.parametrize("says", [b"", b": still here\n\n", STREAM])
async def test_a_server_that_says_done_and_does_not_end_is_left_at_once(says: bytes):
    """Not when it has been silent for too long; and nothing counts any more."""
    heard = asyncio.Event()

    async def keep(writer: asyncio.StreamWriter) -> None:
        while not heard.is_set():
            writer.write(says)
            await writer.drain()
            await asyncio.sleep(0.02)

    async with (
        raw_server(head(SSE), STREAM, after=keep) as url,
        provider_at(url) as provider,
        asyncio.timeout(30),
    ):
        assert (await ask(provider, stream=True)).message.content == "hello"
        heard.set()


async def test_a_limit_that_comes_due_while_nobody_reads_holds_for_who_reads_then():
    over = asyncio.Event()

    async def keep(_: asyncio.StreamWriter) -> None:
        await over.wait()

    begun = b'data: {"choices":[{"delta":{"content":"he"}}]}\n\n'
    async with raw_server(head(SSE), begun, after=keep) as url:
        limits = CallLimits(idle_seconds=0.1)
        provider = ChatCompletionsProvider(url, model="m", limits=limits)
        async with asyncio.timeout(30), aclosing(provider.stream(ASKED)) as pieces:
            await anext(pieces)
            await asyncio.sleep(0.3)  # the limit passes while the reader is elsewhere
            with pytest.raises(LLMUnavailable, match="did not answer in time"):
                await anext(pieces)
        over.set()
        await provider.aclose()


async def test_a_server_that_fails_after_its_finish_has_failed():
    error = b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'
    with pytest.raises(LLMUnavailable, match="overloaded"):
        await asked(head(SSE), FINISHED + error)


async def test_an_endless_stream_ends_with_the_total():
    async def talk(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(LLMUnavailable, match="gave up"):
        await asked(head(SSE), b"", after=talk, total_seconds=0.5)


async def test_head_lines_that_drip_end_with_the_total():
    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(LLMError):
        await asked("200 OK\r\nX-Slow: ", None, after=drip, total_seconds=0.3)


@streaming
async def test_a_list_with_one_error_is_that_error(stream: bool):
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    body = json.dumps([error]).encode()
    for status in ("200 OK", "503 No"):
        async with (
            raw_server(head(JSON, status=status), body) as url,
            provider_at(url) as provider,
        ):
            with pytest.raises(LLMUnavailable, match="overloaded"):
                await ask(provider, stream)


CHUNKED = "\r\nTransfer-Encoding: chunked"
BROKEN_CHUNKS = {
    "no size": b"zz\r\n",
    "a negative size": b"-5\r\nabcde\r\n",
    "a size beyond counting": b"fffffffffffffffffff\r\nabc\r\n",
    "more than its size": b"3\r\n   abc",
}


@streaming
@pytest.mark.parametrize("broken", BROKEN_CHUNKS)
async def test_a_broken_chunk_ends_the_call_at_once(broken: str, stream: bool):
    """Not at its time limit, although the server keeps the connection open."""

    async def break_off(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(BROKEN_CHUNKS[broken])
            await writer.drain()
            await asyncio.sleep(0.01)

    kind = head(SSE if stream else JSON) + CHUNKED
    body = STREAM[:30] if stream else WHOLE[:30]
    async with (
        raw_server(kind, b"%x\r\n%s\r\n" % (len(body), body), after=break_off) as url,
        provider_at(url) as provider,
    ):
        with pytest.raises((MalformedCompletion, StreamTruncated)):
            await ask(provider, stream)
