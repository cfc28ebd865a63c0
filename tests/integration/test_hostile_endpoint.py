"""An endpoint that answers anything at all: one typed outcome, in time, storable.

Answers are made up: JSON of any shape in the places of an answer, events cut at any
byte, statuses, headers and framing that do not fit each other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.llm_serving import ask
from workers.errors import LLMError
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoint import CallLimits
from workers.llm.provider import Completion

EXAMPLES = 150
LIMITS = CallLimits(total_seconds=2, max_bytes=256 * 1024)
HANGS_SECONDS = 60
"""No call of ours takes so long, on any machine."""
WORDS = [
    *("choices", "message", "delta", "content", "tool_calls", "function", "arguments"),
    *("function_call", "name", "id", "index", "finish_reason", "usage", "type", "text"),
    *("prompt_tokens", "completion_tokens", "total_tokens", "error", "object", "code"),
    *("thinking", "reasoning", "reasoning_content", "refusal", "model", "param"),
    *("n_ctx", "n_prompt_tokens", "status", "detail", "system_fingerprint"),
]

TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "\ud800", "\udc00\ud83d", "²²²", "429", "٤٢٩", "stop", "length", "{", "[]"]
    ),
    st.text(alphabet=st.characters(categories=("Cs", "Nd", "No")), max_size=5),
)
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    TEXTS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(WORDS) | TEXTS, inner, max_size=4),
    ),
    max_leaves=8,
)
CALL = {
    "index": 0,
    "id": "c",
    "type": "function",
    "function": {"name": "look", "arguments": '{"q": 1}'},
}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def document(part: str) -> dict[str, Any]:
    """A good answer, or a good chunk of one."""
    said = {"role": "assistant", "content": "hi", "tool_calls": [CALL]}
    choice = {"index": 0, part: said, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice], "usage": USAGE}


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from places(inner, (*path, key))


def with_value(value: Any, path: Sequence[Any], new: object) -> Any:
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = with_value(copy[key], rest, new)
    return copy


@st.composite
def documents(draw: st.DrawFn, part: str) -> Any:
    """An answer with something else in one to three of its places; or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    made = document(part)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(made), key=repr)))
        made = with_value(made, path, draw(VALUES))
    return made


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = st.one_of(
        documents("delta").map(lambda value: f"data: {json.dumps(value)}".encode()),
        documents("message").map(lambda value: f"data:{json.dumps(value)}".encode()),
        st.binary(max_size=12),
        st.sampled_from(
            [b"data: [DONE]", b": comment", b"event: error", b"data:", b"error: no"]
        ),
    )
    ends = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b""])
    return b"".join(
        line + draw(ends) for line in draw(st.lists(lines, min_size=1, max_size=5))
    )


BODIES = st.one_of(
    documents("message").map(lambda value: json.dumps(value).encode()),
    streams(),
    st.binary(max_size=40),
)
TYPES = (b"application/json", b"text/event-stream", b"text/html", b"", b"\xff\xfe/\x80")


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A whole response, whose head may lie about its body."""
    body = draw(BODIES)
    status = draw(st.sampled_from([200, 200, 200, 200, 201, 302, 400, 404, 429, 500]))
    head = [b"HTTP/1.1 %d X" % status]
    if kind := draw(st.sampled_from(TYPES[:2] * 4 + TYPES)):
        head.append(b"content-type: " + kind)
    framing = draw(st.sampled_from(["length"] * 3 + ["chunked", "close", "lie"]))
    if framing == "chunked":
        head.append(b"transfer-encoding: chunked")
        size = draw(st.integers(1, max(1, len(body))))
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts)
        body += draw(st.sampled_from([b"0\r\n\r\n"] * 3 + [b"", b"zz\r\n"]))
    elif framing != "close":
        lie = draw(st.sampled_from([1, 7])) if framing == "lie" else 0
        head.append(b"content-length: %d" % (len(body) + lie))
    if draw(st.integers(0, 9)) == 0:
        encodings = st.sampled_from([b"gzip", b"deflate", b"br", b"\xff", b"identity"])
        head.append(b"content-encoding: " + draw(encodings))
    for name in (b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-tokens"):
        if draw(st.integers(0, 5)) == 0:
            head.append(name + b": " + draw(TEXTS).encode("utf-8", "replace"))
    head = [line.replace(b"\r", b"").replace(b"\n", b"") for line in head]
    return b"\r\n".join([*head, b"", body])


class Hostile:
    """Serves one answer, cut at the given places, and closes."""

    def __init__(self) -> None:
        self.answer = b""
        self.cuts: list[int] = []
        self.provider: ChatCompletionsProvider

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        self.provider = ChatCompletionsProvider(url, model="m", limits=LIMITS)

    async def close(self) -> None:
        await self.provider.aclose()
        self._server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length:")[1].split()[0])
            await reader.readexactly(size)
            begin = 0
            for end in [*sorted({cut % len(self.answer) for cut in self.cuts}), None]:
                writer.write(self.answer[begin:end])
                await writer.drain()
                await asyncio.sleep(0)
                begin = end or 0
            writer.close()

    async def outcome(self, *, stream: bool) -> Completion | LLMError:
        async with asyncio.timeout(HANGS_SECONDS):
            try:
                return await ask(self.provider, stream)
            except LLMError as exc:
                return exc


@contextmanager
def hostile() -> Iterator[tuple[asyncio.Runner, Hostile]]:
    with asyncio.Runner() as runner:
        served = Hostile()
        runner.run(served.open())
        try:
            yield runner, served
        finally:
            runner.run(served.close())


def check(outcome: Completion | LLMError) -> None:
    """One typed outcome, which the journal can store as it is."""
    if isinstance(outcome, Completion):
        stored = outcome.model_dump_json()
        assert Completion.model_validate_json(stored) == outcome
        assert outcome.message.content.strip() or outcome.message.tool_calls
        assert len({call.id for call in outcome.message.tool_calls}) == len(
            outcome.message.tool_calls
        )
        return
    assert type(outcome) is not LLMError
    assert outcome.code
    assert isinstance(outcome.retryable, bool)
    assert len(outcome.body) <= 2048
    for text in (str(outcome), outcome.body, outcome.endpoint):
        text.encode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_any_answer_has_one_typed_outcome(stream: bool):
    with hostile() as (runner, served):

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(answer=answers(), cuts=st.lists(st.integers(0, 4000), max_size=6))
        def holds(answer: bytes, cuts: list[int]) -> None:
            served.answer, served.cuts = answer, cuts
            check(runner.run(served.outcome(stream=stream)))

        holds()


DEEP = {
    "a list": lambda depth: "[" * depth + "]" * depth,
    "an object": lambda depth: '{"a":' * depth + "1" + "}" * depth,
    "parts": lambda depth: '[{"text":' * depth + '"x"' + "}]" * depth,
    "thoughts": lambda depth: (
        '[{"type":"thinking","thinking":' * depth + '"x"' + "}]" * depth
    ),
}
PLACES = {
    "the whole": "%s",
    "content": '{"choices":[{"message":{"content":%s}}]}',
    "reasoning": '{"choices":[{"message":{"content":"x","reasoning":%s}}]}',
    "arguments": '{"choices":[{"message":{"tool_calls":[{"function":{"name":"a",'
    '"arguments":%s}}]}}]}',
    "usage": '{"choices":[{"message":{"content":"x"}}],"usage":%s}',
    "error": '{"error":%s}',
    "error message": '{"error":{"message":%s,"code":"x"}}',
}


@pytest.mark.parametrize("kind", DEEP)
def test_nesting_of_any_depth_has_one_typed_outcome(kind: str):
    with hostile() as (runner, served):
        for place in PLACES.values():
            for depth in (100, 350, 480, 950, 985, 20_000):
                body = (place % DEEP[kind](depth)).encode()
                for stream in (False, True):
                    served.answer = whole_response(body, stream=stream)
                    check(runner.run(served.outcome(stream=stream)))


def whole_response(body: bytes, *, stream: bool) -> bytes:
    kind = b"event-stream" if stream else b"json"
    if stream:
        body = b"data: " + body.replace(b'"message":{"c', b'"delta":{"c') + b"\n\n"
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/%s\r\ncontent-length: %d\r\n\r\n%s"
        % (kind, len(body), body)
    )


LONE = {
    "words": '{"error":{"message":"\\ud800 bad","code":"\\udfff"}}',
    "text": '{"error":"\\ud83d"}',
    "digits of no number": '{"error":{"code":"\u00b2\u00b2\u00b2","message":"x"}}',
    "refusal": '{"choices":[{"message":{"content":"","refusal":"no\\ud800"}}]}',
    "names": '{"model":"\\ud800","choices":[{"message":{"content":"x"},'
    '"finish_reason":"\\ud800"}]}',
}


@pytest.mark.parametrize("row", LONE)
def test_text_that_is_no_unicode_is_mended_before_it_is_stored(row: str):
    with hostile() as (runner, served):
        for stream in (False, True):
            for status in (200, 400, 404, 429, 500):
                answer = whole_response(LONE[row].encode(), stream=stream)
                served.answer = answer.replace(b"200 OK", b"%d X" % status, 1)
                check(runner.run(served.outcome(stream=stream)))


HEADERS = [
    b"content-type: te\xff\xfext/\x80",
    b"content-encoding: \xff\xfe",
    b"retry-after: \xff",
    b"retry-after: Wed, 99 Foo 99999 99:99:99",
    b"retry-after-ms: nan",
    b"retry-after: inf",
    b"x-ratelimit-reset-requests: 9999999999999999999999999999h",
    b"anthropic-ratelimit-tokens-reset: 9999-12-31T23:59:59-23:59",
    b"x-ratelimit-reset: -1",
]


def test_headers_that_say_nothing_are_no_harm():
    with hostile() as (runner, served):
        for header in HEADERS:
            for status in (b"200", b"429"):
                head = b"HTTP/1.1 " + status + b" X\r\ncontent-length: 2\r\n"
                served.answer = head + header + b"\r\n\r\n{}"
                check(runner.run(served.outcome(stream=False)))
