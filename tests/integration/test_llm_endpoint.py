"""The provider against the scripted double over a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conversations.message import Message
from tests.integration.llm_serving import (
    ASKED,
    EVENT,
    KEY,
    SSE,
    ask,
    failing,
    serving,
    streaming,
)
from workers.errors import RequestRejected
from workers.llm.provider import (
    Completion,
    CompletionRequest,
    FinishReason,
    ToolSpec,
)

DEADLINE_SECONDS = 30.0
"""What hangs passes it; nothing else does."""
CALLS = {
    "tool_calls": [
        {"name": "look", "arguments": {"city": "Tromsø"}, "id": "c1"},
        {"name": "look", "arguments": '{"city": ', "id": "c2"},
    ]
}


@streaming
async def test_text_reasoning_and_usage_come_through(stream: bool):
    async with serving([{"text": "good day", "reasoning": "hm"}]) as (double, provider):
        completion = await ask(provider, stream)
        assert not double.unused
        assert double.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert completion.message.content == "good day"
    assert completion.message.reasoning == "hm"
    assert completion.usage is not None
    assert completion.usage.output_tokens > 0
    assert completion.model == "m"


@streaming
async def test_tool_calls_come_through_and_bad_arguments_are_told(stream: bool):
    request = ASKED.model_copy(update={"tools": (ToolSpec(name="look"),)})
    async with serving([CALLS]) as (_, provider):
        completion = await ask(provider, stream, request)
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    arguments = {call.id: call.arguments for call in completion.message.tool_calls}
    assert arguments == {"c1": {"city": "Tromsø"}, "c2": {}}
    assert list(completion.invalid_arguments) == ["c2"]


async def test_the_key_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    async with serving(["hi", {"status": 401, "text": KEY}]) as (double, provider):
        await ask(provider)
        with pytest.raises(RequestRejected):
            await ask(provider)
        assert KEY not in repr(provider) + repr(double.requests)
    assert KEY not in caplog.text


async def test_pieces_of_a_stream_arrive_before_its_end():
    async with serving([{"text": "one two three", "drip_seconds": 0.01}]) as (_, llm):
        pieces = [piece async for piece in llm.stream(ASKED)]
    texts = [piece.text for piece in pieces if not isinstance(piece, Completion)]
    assert texts == ["one ", "two ", "three"]


@streaming
@pytest.mark.parametrize(
    "body",
    [
        f": PROCESSING\n\n{EVENT}data: [DONE]",
        f"\ufeff{EVENT}\r\ndata:[DONE]\r\n\r\n".replace("\n\n", "\r\n"),
        f'data: {{"choices":[],"id":""}}\n{EVENT}event: x\ndata: [DONE]\n',
    ],
    ids=["comment", "bom", "no-blank-lines"],
)
async def test_odd_but_whole_streams_are_understood(body: str, stream: bool):
    async with serving([{"body": body, "headers": SSE}]) as (_, provider):
        assert (await ask(provider, stream)).message.content == "hi"


async def test_a_whole_answer_to_a_stream_request_is_taken():
    body = json.dumps({"choices": [{"message": {"content": "hi"}}]})
    async with serving([{"body": body}]) as (_, provider):
        assert (await ask(provider, stream=True)).message.content == "hi"


@streaming
@pytest.mark.parametrize(
    "reply", [{"hang": True}, {"text": "one two three", "drip_seconds": 9}]
)
async def test_a_cancelled_call_closes_its_connection_at_once(
    reply: dict[str, Any], stream: bool
):
    seen = asyncio.Event()

    def script(_: object) -> dict[str, Any]:
        seen.set()
        return reply

    async with serving(script) as (double, provider):
        call = asyncio.create_task(ask(provider, stream))
        await seen.wait()
        call.cancel()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await double.disconnected.wait()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_leaving_a_stream_closes_its_connection():
    reply = {"text": "one two three", "drip_seconds": 0.2}
    async with serving([reply]) as (double, provider):
        pieces = provider.stream(ASKED)
        await anext(pieces)
        await pieces.aclose()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await double.disconnected.wait()


async def test_a_refused_max_tokens_is_asked_once_and_remembered():
    def script(body: dict[str, Any]) -> object:
        if "max_tokens" not in body:
            return "fine"
        error = {
            "code": "unsupported_parameter",
            "param": "max_tokens",
            "message": "no",
        }
        return {"status": 400, "body": json.dumps({"error": error})}

    request = ASKED.model_copy(update={"max_output_tokens": 9})
    async with serving(script) as (double, provider):
        for _ in range(2):
            assert (await ask(provider, False, request)).message.content == "fine"
        sent = [("max_tokens" in r.body) for r in double.requests]
    assert sent == [True, False, False]


async def test_200_calls_at_once_all_get_their_answer():
    def script(body: dict[str, Any]) -> str:
        return str(body["messages"][0]["content"])

    # Both ends share one loop: 200 connections stand no sooner than it has turned.
    async with serving(script, connect_seconds=50) as (_, provider):
        requests = [
            CompletionRequest(messages=(Message(role="user", content=f"call {n}"),))
            for n in range(200)
        ]
        answers = await asyncio.gather(
            *(ask(provider, n % 2 == 0, r) for n, r in enumerate(requests))
        )
    assert [a.message.content for a in answers] == [f"call {n}" for n in range(200)]


def test_two_event_loops_in_a_row_work_with_fresh_providers():
    async def once() -> str:
        async with serving(["hi"]) as (_, provider):
            return (await ask(provider)).message.content

    assert [asyncio.run(once()) for _ in range(2)] == ["hi", "hi"]


async def test_a_proxy_in_the_environment_does_not_break_loopback(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_tcp_port}")
    async with serving(["hi"]) as (_, provider):
        assert (await ask(provider)).message.content == "hi"


async def test_an_exhausted_script_complains():
    error = await failing([])
    assert "the double's script has no reply for call 1" in str(error)
