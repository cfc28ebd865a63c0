"""Whatever an endpoint does wrong has one named outcome, streaming and not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.integration.llm_serving import (
    ASKED,
    EVENT,
    KEY,
    SSE,
    ask,
    failing,
    provider_at,
    serving,
    streaming,
)
from workers.errors import (
    ContextOverflow,
    EmptyCompletion,
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    StreamTruncated,
)
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.provider import Completion, TextDelta

DEADLINE_SECONDS = 30.0
"""What hangs passes it; nothing else does, however loaded the machine is."""


@streaming
@pytest.mark.parametrize(
    ("status", "leaf"),
    [
        (302, RequestRejected),
        (400, RequestRejected),
        (401, RequestRejected),
        (403, RequestRejected),
        (404, RequestRejected),
        (413, RequestRejected),
        (422, RequestRejected),
        (429, RateLimited),
        (500, LLMUnavailable),
        (502, LLMUnavailable),
        (503, LLMUnavailable),
        (504, LLMUnavailable),
        (529, LLMUnavailable),
    ],
)
async def test_an_error_status_is_one_leaf_and_one_call(
    status: int, leaf: type[LLMError], stream: bool
):
    reply = {"status": status, "text": f"no {KEY}", "headers": {"location": "/x"}}
    assert type(await failing([reply], stream)) is leaf


async def test_a_rate_limit_carries_the_wait():
    error = await failing([{"status": 429, "headers": {"Retry-After": "3"}}])
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == 3


@streaming
@pytest.mark.parametrize(
    ("reply", "leaf"),
    [
        ({"body": '{"choices": [{"mess'}, MalformedCompletion),
        ({"body": "[1, 2]"}, MalformedCompletion),
        ({"body": ""}, MalformedCompletion),
        ({"body": "{malformed json: <<<chaos>>>"}, MalformedCompletion),
        ({"body": "{}"}, MalformedCompletion),
        (
            {"body": "<html/>", "headers": {"content-type": "text/html"}},
            MalformedCompletion,
        ),
        ({"body": '{"error": {"message": "boom", "code": 500}}'}, LLMUnavailable),
        ({"body": '{"error": {"code": "insufficient_quota"}}'}, QuotaExhausted),
        ({"body": '{"error": {"code": "context_length_exceeded"}}'}, ContextOverflow),
        ({"body": "not an event\n\n", "headers": SSE}, MalformedCompletion),
        ({"body": "data: {nope\n\n", "headers": SSE}, MalformedCompletion),
        ({"body": EVENT, "headers": SSE}, StreamTruncated),
        ({"body": "", "headers": SSE}, StreamTruncated),
        (
            {"body": EVENT + 'data: {"error": {"message": "x"}}\n\n', "headers": SSE},
            LLMUnavailable,
        ),
        ({"body": EVENT + '{"error": "x"}\n', "headers": SSE}, LLMUnavailable),
        (
            {"text": "one two three", "cut_after": 1},
            (StreamTruncated, MalformedCompletion),
        ),
        ({"text": ""}, EmptyCompletion),
        (
            {"body": "{}", "headers": {"content-encoding": "gzip"}},
            (MalformedCompletion),
        ),
    ],
)
async def test_an_answer_that_is_none_has_one_named_outcome(
    reply: dict[str, Any], leaf: type[LLMError], stream: bool
):
    assert isinstance(await failing([reply], stream), leaf)


async def test_a_cut_stream_is_truncated_after_its_pieces():
    async with serving([{"text": "one two three", "cut_after": 3}]) as (_, provider):
        told: list[str] = []
        with pytest.raises(StreamTruncated):
            await listen(provider, told)
    assert "".join(told) == "one two "


async def listen(provider: ChatCompletionsProvider, told: list[str]) -> None:
    """Note what is told of an answer; pieces that come together are one."""
    async for piece in provider.stream(ASKED):
        if isinstance(piece, TextDelta):
            told.append(piece.text)


@streaming
async def test_a_reply_larger_than_the_limit_is_cut_off(stream: bool):
    error = await failing([{"text": "word " * 2000}], stream, max_bytes=4096)
    assert isinstance(error, MalformedCompletion)
    assert "more than 4096 bytes" in str(error)


async def test_a_refused_connection_names_the_remedy_at_once(unused_tcp_port: int):
    provider = ChatCompletionsProvider(
        f"http://localhost:{unused_tcp_port}/v1", model="m"
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(LLMUnavailable) as caught:
            await provider.complete(ASKED)
    await provider.aclose()
    assert str(caught.value) == (
        f"no LLM endpoint answers at http://localhost:{unused_tcp_port}/v1;"
        " start it (`ollama serve`) or set OPENAI_BASE_URL"
    )


async def test_a_plain_endpoint_asked_for_encryption_is_named():
    async with (
        Double() as double,
        provider_at(double.url.replace("http:", "https:")) as provider,
    ):
        with pytest.raises(LLMUnavailable, match="begin with http or https"):
            await provider.complete(ASKED)


@streaming
@pytest.mark.parametrize(
    ("reply", "limits"),
    [
        ({"hang": True}, {"total_seconds": 0.2}),
        ({"text": "one two three " * 9, "drip_seconds": 0.15}, {"total_seconds": 0.4}),
        ({"text": "one two three", "drip_seconds": 9}, {"total_seconds": 0.2}),
    ],
    ids=["no-headers", "slow-drip", "no-body"],
)
async def test_the_total_bounds_every_call(
    reply: dict[str, Any], limits: dict[str, float], stream: bool
):
    if reply.get("drip_seconds") == 0.15 and not stream:
        reply = {**reply, "drip_seconds": 0.5}
    async with serving([reply], **limits) as (double, provider):
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(LLMUnavailable, match="did not answer in time"):
                await ask(provider, stream)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await double.disconnected.wait()


@pytest.mark.parametrize(
    ("reply", "limits"),
    [
        ({"hang": True}, {"first_byte_seconds": 0.2}),
        ({"text": "one two", "drip_seconds": 9}, {"first_byte_seconds": 0.2}),
        ({"text": "one two", "drip_seconds": 0.3}, {"idle_seconds": 0.1}),
    ],
    ids=["first-byte", "first-byte-after-headers", "idle"],
)
async def test_a_stream_has_limits_of_its_own(
    reply: dict[str, Any], limits: dict[str, float]
):
    async with asyncio.timeout(DEADLINE_SECONDS):
        error = await failing([reply], True, **limits)
    assert isinstance(error, LLMUnavailable)


async def test_a_reader_that_is_slow_loses_nothing_that_has_arrived():
    reply = {"text": "one two three", "drip_seconds": 0.01}
    async with serving([reply], idle_seconds=0.5) as (_, provider):
        pieces = provider.stream(ASKED)
        seen = [await anext(pieces)]
        await asyncio.sleep(0.8)  # the limit passes while the reader is elsewhere
        seen += [piece async for piece in pieces]
    told = [piece.text for piece in seen if isinstance(piece, TextDelta)]
    assert "".join(told) == "one two three"
    assert isinstance(seen[-1], Completion)


async def test_the_request_may_set_its_own_total():
    async with serving([{"hang": True}]) as (_, provider):
        with pytest.raises(LLMUnavailable, match=r"gave up after 0\.1 s"):
            await ask(
                provider, False, ASKED.model_copy(update={"timeout_seconds": 0.1})
            )


WHOLE = b'{"choices":[{"message":{"content":"hi"}}]}'
CHUNKS = (EVENT.encode(), b"data: [DONE]\n\n", b"")
JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(WHOLE), WHOLE)
)
STREAM_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in CHUNKS)
)


@asynccontextmanager
async def sending(*answers: bytes) -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """Serve raw bytes, one answer per request; an empty one closes its connection."""
    rest = iter(answers)
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length:")[1].split()[0])
                await reader.readexactly(size)
                answer = next(rest)
                writer.write(answer)
                if not answer:
                    break
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1", lambda: connections


async def test_a_connection_lost_before_any_byte_is_retried_once():
    async with (
        sending(JSON_ANSWER, b"", JSON_ANSWER) as (url, connections),
        provider_at(url) as provider,
    ):
        for _ in range(2):
            assert (await provider.complete(ASKED)).message.content == "hi"
        assert connections() == 2


async def test_a_connection_lost_twice_is_unavailable():
    async with (
        sending(b"", b"", JSON_ANSWER) as (url, connections),
        provider_at(url) as provider,
    ):
        with pytest.raises(LLMUnavailable, match="closed the connection"):
            await provider.complete(ASKED)
        assert connections() == 2


async def test_what_does_not_speak_http_is_named():
    async with (
        sending(b"SSH-2.0-OpenSSH_9.6\r\n\r\n") as (url, _),
        provider_at(url) as provider,
    ):
        with pytest.raises(MalformedCompletion, match="does not speak HTTP"):
            await provider.complete(ASKED)


async def test_a_whole_answer_leaves_its_connection_for_the_next_call():
    answers = (STREAM_ANSWER, JSON_ANSWER, STREAM_ANSWER)
    async with sending(*answers) as (url, connections), provider_at(url) as provider:
        for stream in (True, False, True):
            assert (await ask(provider, stream)).message.content == "hi"
        assert connections() == 1


@streaming
@pytest.mark.parametrize(
    ("answer", "leaf"),
    [
        (JSON_ANSWER[:-9], MalformedCompletion),
        (STREAM_ANSWER[: STREAM_ANSWER.index(b"data: [DONE]")], StreamTruncated),
        (b"HTTP/1.1 200 OK\r\ncontent-ty", LLMUnavailable),
    ],
    ids=["document", "stream", "head"],
)
async def test_an_answer_cut_on_the_wire_is_never_a_completion(
    answer: bytes, leaf: type[LLMError], stream: bool
):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with provider_at(f"http://127.0.0.1:{port}/v1") as provider:
            with pytest.raises(leaf):
                await ask(provider, stream)
