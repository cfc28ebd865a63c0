"""What servers and the way to them do beside the tables: one named outcome each.

Bytes go over a socket as they stand. A row is an answer, or what is said of it.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.canned import call, delta, events
from tests.integration.llm_serving import EVENT, KEY, ask, serving, streaming
from tests.integration.odd_server import (
    DONE,
    JSON,
    SSE,
    WHOLE,
    answer,
    document,
    held_by,
    outcome,
    provider_of,
    sending,
    server,
)
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
from workers.llm.endpoint import CallLimits, Endpoint


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
