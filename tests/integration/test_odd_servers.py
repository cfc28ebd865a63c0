"""What servers and the way to them do beside the tables: one named outcome each.

Bytes go over a socket as they stand. A row is an answer, or what is said of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from traceback import TracebackException
from typing import Any

import pytest
from pydantic import SecretStr

from tests.integration.canned import call, delta, events
from tests.integration.llm_serving import EVENT, KEY, ask, serving, streaming
from workers.errors import (
    CompletionRefused,
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    StreamTruncated,
)
from workers.llm.call_clock import CallClock
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


def event_stream(*payloads: object, done: bool = True) -> bytes:
    return answer((events(*payloads, done=done).body or "").encode(), SSE)


CHUNKS = b"%x;name=value\r\n%s\r\n0\r\nx-trailer: 1\r\n\r\n" % (len(WHOLE), WHOLE)
ANSWERS: dict[str, tuple[bytes, object]] = {
    "HTTP/1.0, a document": (answer(WHOLE, JSON, version="1.0"), "hi"),
    "HTTP/1.0, a stream": (answer(DONE, SSE, version="1.0"), "hi"),
    "HTTP/1.0, a cut document": (
        answer(WHOLE[:-5], JSON, version="1.0"),
        MalformedCompletion,
    ),
    "HTTP/1.0, a cut stream": (
        answer(EVENT.encode(), SSE, version="1.0"),
        StreamTruncated,
    ),
    "ends with its connection": (answer(WHOLE, JSON, "connection: close"), "hi"),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(WHOLE, JSON), "hi"),
    "103 first": (
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer(WHOLE, JSON),
        "hi",
    ),
    "102 again and again": (
        b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + answer(WHOLE, JSON),
        "hi",
    ),
    "100 and nothing": (b"HTTP/1.1 100 Continue\r\n\r\n", LLMUnavailable),
    "another protocol": (
        b"HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        LLMUnavailable,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", StreamTruncated),
    "accepted for later": (
        answer(b'{"id": "x", "status": "queued"}', JSON, status="202 Accepted"),
        MalformedCompletion,
    ),
    "two lengths": (
        answer(WHOLE, JSON, "content-length: 3"),
        MalformedCompletion,
    ),
    "a length beyond counting": (
        answer(WHOLE, JSON, f"content-length: {'9' * 30}", "connection: close"),
        MalformedCompletion,
    ),
    "a negative length": (
        answer(WHOLE, JSON, "content-length: -1", "connection: close"),
        MalformedCompletion,
    ),
    "a giant header": (answer(WHOLE, JSON, "x: " + "a" * 99_999), MalformedCompletion),
    "headers without end": (answer(WHOLE, JSON, *["x: 1"] * 2000), MalformedCompletion),
    "HTTP/2": (answer(WHOLE, JSON, version="2"), MalformedCompletion),
    "an alert of TLS": (b"\x15\x03\x01\x00\x02\x02\x28", MalformedCompletion),
    "trailers": (answer(CHUNKS, JSON, "transfer-encoding: Chunked"), "hi"),
    "a byte order mark": (answer(b"\xef\xbb\xbf" + DONE, SSE), "hi"),
    "CR alone": (answer(DONE.replace(b"\n", b"\r"), SSE), "hi"),
    "data without a blank": (answer(DONE.replace(b"data: ", b"data:"), SSE), "hi"),
    "two documents": (answer(WHOLE * 2, JSON), MalformedCompletion),
    "the Responses API": (
        answer(b'{"object": "response", "output": []}', JSON),
        MalformedCompletion,
    ),
    "Ollama's own API": (
        answer(b'{"message": {"content": "hi"}, "done": true}', JSON),
        MalformedCompletion,
    ),
    "the old API": (
        answer(b'{"choices": [{"text": "hi"}]}', JSON),
        MalformedCompletion,
    ),
    "null choices": (answer(document(choices=None), JSON), MalformedCompletion),
    "no choice but usage": (
        answer(document(choices=[], usage={"prompt_tokens": 1}), JSON),
        MalformedCompletion,
    ),
    "a call without a name": (
        event_stream(delta(tool_calls=[call("{}", name=None)])),
        MalformedCompletion,
    ),
    "the key as the name of a tool that is too long": (
        event_stream(delta(tool_calls=[call("{}", name=KEY * 20)])),
        MalformedCompletion,
    ),
    "the key in a call before one without a name": (
        event_stream(
            delta(tool_calls=[call(f'{{"a": "{KEY}"}}', index=0)]),
            delta(tool_calls=[call("{}", name="", index=1)]),
        ),
        MalformedCompletion,
    ),
    "the key in a refusal": (
        answer(document(choices=[{"message": {"refusal": f"no: {KEY}"}}]), JSON),
        CompletionRefused,
    ),
    "the key in the pieces of a refusal": (
        event_stream(delta(refusal=f"no: {KEY[:9]}"), delta(refusal=KEY[9:])),
        CompletionRefused,
    ),
    "the key across the end of what is told of a refusal": (
        answer(
            document(choices=[{"message": {"refusal": "n" * (301 - len(KEY)) + KEY}}]),
            JSON,
        ),
        CompletionRefused,
    ),
    "the key and then an end": (
        event_stream(delta(content=KEY), done=False),
        StreamTruncated,
    ),
    "the key and then an error": (
        event_stream(delta(content=KEY), {"error": {"message": "no"}}),
        LLMUnavailable,
    ),
    "the key and more than is taken": (
        answer(b"{" + KEY.encode() + b" " * 1024, JSON),
        MalformedCompletion,
    ),
    "the key and more events than are taken": (
        event_stream(delta(content=KEY), *[delta(content="hi")] * 20),
        MalformedCompletion,
    ),
    "an error with the key": (answer(document(error=KEY), JSON), LLMUnavailable),
    "the key and no JSON": (answer(b"{" + KEY.encode(), JSON), MalformedCompletion),
    "the key and its end is missing": (
        answer(b"{" + KEY.encode(), JSON).replace(b"length: ", b"length: 9"),
        MalformedCompletion,
    ),
    "the key across the end of what is kept": (
        answer(b"{" + b" " * (2048 - len(KEY)) + KEY.encode(), JSON),
        MalformedCompletion,
    ),
    "the key and no HTTP": (KEY.encode() + b"\r\n\r\n", MalformedCompletion),
    "the key and not compressed": (
        answer(KEY.encode(), JSON, "content-encoding: gzip"),
        MalformedCompletion,
    ),
    "a call that is no list": (
        answer(document(choices=[{"message": {"tool_calls": call("{}")}}]), JSON),
        "",
    ),
    "an error that is none": (answer(document(error={}), JSON), "hi"),
    "an error beside an answer": (
        answer(document(error={"message": "no"}), JSON),
        LLMUnavailable,
    ),
}
LIMITS = {row: CallLimits(max_bytes=1024) for row in ANSWERS if row.endswith("taken")}
DRIPS = {"text": f"{KEY} {'word ' * 99}", "drip_seconds": 0.3}
"""Comes in pieces; the key stands in the first."""
STATUSES: dict[type[LLMError], tuple[int, ...]] = {
    RequestRejected: (300, 401, 403, 404, 405, 406, 407, 410, 413, 415, 421, 451),
    QuotaExhausted: (402,),
    RateLimited: (429,),
    LLMUnavailable: (408, 409, 425, 498, 499, 501, 507, 520, 524, 529, 599, 999),
}


@streaming
@pytest.mark.parametrize("row", ANSWERS)
async def test_an_odd_answer_has_one_named_outcome(row: str, stream: bool):
    raw, expected = ANSWERS[row]
    found = await outcome(sending(raw), stream, limits=LIMITS.get(row))
    assert found == [expected]


@pytest.mark.parametrize("leaf", STATUSES)
async def test_an_odd_status_has_one_named_outcome(leaf: type[LLMError]):
    for status in STATUSES[leaf]:
        raw = answer(b'{"error": {"message": "m"}}', JSON, status=f"{status} X")
        assert await outcome(sending(raw), stream=False) == [leaf], status


async def test_the_body_of_an_error_that_breaks_off_within_the_key_shows_none_of_it():
    raw = answer(b"no key " + KEY.encode(), status="401 X").replace(b": ", b": 9")
    async with (
        server(sending(raw[:-1])) as (port, _),
        provider_of(f"http://127.0.0.1:{port}/v1") as provider,
    ):
        with pytest.raises(RequestRejected, match="no key") as caught:
            await ask(provider, stream=False)
    assert KEY[:9] not in f"{caught.value} {caught.value.body}"


async def test_a_call_that_is_too_late_keeps_no_frame_of_what_waited():
    clock = CallClock(Endpoint(base_url="http://h/v1"), total_seconds=0.01)
    with pytest.raises(LLMUnavailable) as caught:
        await clock.bound(asyncio.Event().wait(), 9)
    assert caught.value.__context__ is None


@streaming
async def test_an_answer_that_takes_too_long_keeps_no_frame_of_what_had_come(
    stream: bool,
):
    async with serving([DRIPS], total_seconds=0.5) as (_, provider):
        with pytest.raises(LLMUnavailable, match="in time") as caught:
            await ask(provider, stream)
    told = held_by(caught.value)
    assert KEY[:-1] not in told


async def test_a_model_that_is_named_like_the_key_is_told_without(
    caplog: pytest.LogCaptureFixture,
):
    raw = answer(document(model=f"m of {KEY}"), JSON)
    async with (
        server(sending(raw)) as (port, _),
        provider_of(f"http://127.0.0.1:{port}/v1") as provider,
    ):
        named = (await ask(provider)).model
    said = "".join(repr(vars(each)) for each in caplog.records)
    assert KEY not in named + said


@streaming
async def test_a_connection_reset_on_reuse_costs_no_attempt(stream: bool):
    """Nothing of an answer had come, and the server takes its requests anew."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        if number == 2:
            writer.transport.abort()
        else:
            writer.write(answer(DONE, SSE) if stream else answer(WHOLE, JSON))
        return number == 1

    assert await outcome(behave, stream, calls=4) == ["hi"] * 4


async def test_half_of_a_head_on_reuse_is_not_asked_again_unseen():
    """The request may have been taken: who asks again is the task's affair."""

    async def behave(writer: asyncio.StreamWriter, number: int) -> bool:
        writer.write(answer(WHOLE, JSON) if number == 1 else b"HTTP/1.1 20")
        return number == 1

    found = await outcome(behave, stream=False, calls=2)
    assert found == ["hi", LLMUnavailable]


async def test_a_second_answer_to_one_request_is_nobodys():
    other = answer(WHOLE.replace(b"hi", b"of another"), JSON)

    async def behave(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(answer(WHOLE, JSON) + other)
        return True

    found = await outcome(behave, stream=False, calls=3)
    assert found[0] == "hi"
    assert "of another" not in found


async def test_no_cookie_goes_from_one_call_to_the_next():
    async def behave(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(answer(WHOLE, JSON, "set-cookie: session=one; path=/"))
        return True

    async with (
        server(behave) as (port, heads),
        provider_of(f"http://localhost:{port}/v1") as provider,
    ):
        for _ in range(3):
            await ask(provider)
    assert len(heads) == 3
    assert not any(b"cookie" in head.lower() for head in heads)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_key_follows_a_redirect(status: int):
    async with server(sending(answer(WHOLE, JSON))) as (other, asked):
        place = f"location: http://127.0.0.1:{other}/v1/chat/completions"
        raw = answer(b"", place, status=f"{status} X")
        assert await outcome(sending(raw), stream=False) == [RequestRejected]
    assert not asked


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("http://127.0.0.1:{}", b"/chat/completions"),
        ("http://127.0.0.1:{}/v1/", b"/v1/chat/completions"),
        ("http://127.0.0.1:{}/a/b%20c//", b"/a/b%20c/chat/completions"),
        ("HTTP://localhost:{}/v1", b"/v1/chat/completions"),
        ("http://[::1]:{}/v1", b"/v1/chat/completions"),
    ],
)
async def test_an_address_is_called_as_it_is_written(base: str, path: bytes):
    host = "::1" if "[" in base else "127.0.0.1"
    with socket.socket(socket.AF_INET6 if "[" in base else socket.AF_INET) as look:
        try:
            look.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
    async with (
        server(sending(answer(WHOLE, JSON)), host) as (port, heads),
        provider_of(base.format(port)) as provider,
    ):
        assert (await ask(provider)).message.content == "hi"
    assert heads[0].split()[1] == path
