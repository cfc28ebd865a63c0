"""How answers arrive; rows of the table of quirks by number."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.canned import JSON, delta, events, whole
from tests.integration.llm_serving import SSE, ask, failing, serving, streaming
from workers.errors import (
    LLMError,
    LLMUnavailable,
    MalformedCompletion,
    StreamTruncated,
)
from workers.llm.double_script import HttpReply
from workers.llm.provider import FinishReason

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
HELLO = (delta(role="assistant"), delta(content="he"), delta("stop", content="llo"))

GOOD = {
    "12 comments between events": events(": OPENROUTER PROCESSING", *HELLO),
    "13 a first chunk without choices": events(
        {"choices": [], "id": "", "model": "", "prompt_filter_results": [{}]}, *HELLO
    ),
    "14 usage after the finish": events(*HELLO, {"choices": [], "usage": USAGE}),
    "14 usage on every chunk, last wins": events(
        *[
            chunk | {"usage": USAGE | {"completion_tokens": n}}
            for n, chunk in enumerate(HELLO)
        ]
    ),
    "14 usage never": events(*HELLO),
    "15 finish reason is an empty text": events(
        delta("", content="he"), delta("", content="llo"), delta("stop")
    ),
    "41 unknown event types": events(
        {"type": "keepalive", "sequence_number": 1}, *HELLO
    ),
    "E10 no [DONE] after the finish": events(*HELLO, done=False),
    "E10 two choices": events(
        delta(content="he"),
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        delta("stop", content="llo"),
    ),
    "E12 extra fields": events(*[chunk | {"novelty": [1]} for chunk in HELLO]),
    "E11 a byte order mark": HttpReply(
        body="\ufeff" + (events(*HELLO).body or ""), headers=SSE
    ),
    "E17 an unknown finish reason": events(
        delta(content="hello"), delta("because it could")
    ),
    "37 a document though a stream was asked": whole({"content": "hello"}),
    "E12 content in parts": whole({"content": [{"type": "text", "text": "hello"}]}),
    "E12 numbers as texts": whole(
        {"content": "hello"}, usage={"prompt_tokens": "7", "completion_tokens": "2"}
    ),
    "E11 a document with a byte order mark": HttpReply(
        body="\ufeff" + (whole({"content": "hello"}).body or ""), headers=JSON
    ),
}


@streaming
@pytest.mark.parametrize("row", GOOD)
async def test_the_answer_is_read_however_it_comes(row: str, stream: bool):
    async with serving([GOOD[row]]) as (_, provider):
        completion = await ask(provider, stream)
    assert completion.message.content == "hello"
    assert completion.finish_reason is FinishReason.STOP
    if "usage" in (GOOD[row].body or ""):
        assert completion.usage is not None
        assert (completion.usage.input_tokens, completion.usage.output_tokens) == (7, 2)
    else:
        assert completion.usage is None


BAD: dict[str, tuple[HttpReply, type[LLMError]]] = {
    "10 Ollama's swallowed error": (
        events(delta(content=""), done=False),
        StreamTruncated,
    ),
    "10 cut after some text": (
        events(delta(content="he"), done=False),
        StreamTruncated,
    ),
    "E10 an event that is not JSON": (
        events(delta(content="he"), "data: {nope"),
        MalformedCompletion,
    ),
    "E10 an event that is a list": (events("data: [1]"), MalformedCompletion),
    "E11 HTML": (
        HttpReply(body="<html>", headers={"content-type": "text/html"}),
        MalformedCompletion,
    ),
    "E11 an empty document": (HttpReply(body="", headers=JSON), MalformedCompletion),
    "E12 no choices": (HttpReply(body="{}", headers=JSON), MalformedCompletion),
    "E12 empty choices": (
        HttpReply(body='{"choices": []}', headers=JSON),
        MalformedCompletion,
    ),
    "E12 message null": (whole(None), MalformedCompletion),
}


@streaming
@pytest.mark.parametrize("row", BAD)
async def test_what_is_no_answer_has_one_named_outcome(row: str, stream: bool):
    reply, leaf = BAD[row]
    error = await failing([reply], stream)
    assert type(error) is leaf
    assert error.retryable


REASONING = {
    "16 reasoning": "reasoning",
    "16 reasoning_content": "reasoning_content",
    "16 thinking": "thinking",
}


@streaming
@pytest.mark.parametrize("row", REASONING)
async def test_reasoning_is_kept_apart_under_its_own_name(row: str, stream: bool):
    name = REASONING[row]
    reply = (
        events(*[delta(**{name: t}) for t in ("h", "m")], *HELLO)
        if stream
        else whole({"content": "hello", name: "hm"})
    )
    async with serving([reply]) as (_, provider):
        message = (await ask(provider, stream)).message
    assert message.content == "hello"
    assert (message.reasoning, message.reasoning_field) == ("hm", name)


async def test_12_comments_do_not_outlast_the_total():
    comments = HttpReply(body=": wait\n\n" * 10, drip_seconds=0.1, headers=SSE)
    async with asyncio.timeout(5):
        error = await failing([comments], True, idle_seconds=0.5, total_seconds=0.6)
    assert isinstance(error, LLMUnavailable)


@streaming
async def test_another_model_than_asked_for_is_told_once(
    stream: bool, caplog: pytest.LogCaptureFixture
):
    replies = [whole({"content": "hello"}, model="loaded.gguf")] * 2
    async with serving(replies) as (_, provider):
        for _ in replies:
            assert (await ask(provider, stream)).model == "loaded.gguf"
    assert caplog.text.count("endpoint answers with another model") == 1


async def test_e10_a_hundred_thousand_tiny_events_are_one_answer():
    tiny = events(*[delta(content="x")] * 100_000, delta("stop"))
    async with serving([tiny]) as (_, provider):
        completion = await ask(provider, True)
    assert len(completion.message.content) == 100_000


async def test_e10_tiny_events_without_end_meet_the_byte_cap():
    tiny = events(*[delta(content="x")] * 100_000)
    error = await failing([tiny], True, max_bytes=1024 * 1024)
    assert isinstance(error, MalformedCompletion)
    assert "more than 1048576 bytes" in str(error)
    assert "max_response_bytes" in str(error)
    assert "OPENAI_BASE_URL" not in str(error)
