"""What is counted of a tool's own completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from conversations.message import Message, Role
from orchestrator.task import Usage
from workers.llm.metered import MeteredProvider
from workers.llm.provider import Completion, CompletionRequest, TextDelta
from workers.llm.scripted import ScriptedLLMProvider

ASKED = CompletionRequest(messages=(Message(role=Role.USER, content="Hello"),))
ANSWER = Completion(
    message=Message(role=Role.ASSISTANT, content="Hi"),
    usage=Usage(input_tokens=3, output_tokens=4),
    cost_micros=7,
    gate_wait_seconds=0.5,
)


class HangingProvider(ScriptedLLMProvider):
    """Never answers; says what was cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.cut_off = 0

    async def complete(self, request: CompletionRequest) -> Completion:
        self.requests.append(request)
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off += 1
        raise AssertionError


class StreamingProvider(HangingProvider):
    """Answers what is streamed, and only that."""

    async def stream(
        self, request: CompletionRequest
    ) -> AsyncGenerator[TextDelta | Completion]:
        yield TextDelta(text="hi")
        yield ANSWER


async def test_tokens_money_and_waits_of_all_of_them_are_summed() -> None:
    llm = ScriptedLLMProvider(replies=[ANSWER, ANSWER])
    metered = MeteredProvider(lambda: llm, model="small")
    await metered.complete(ASKED)
    pieces = [piece async for piece in metered.stream(ASKED)]
    assert pieces[-1] == ANSWER
    assert metered.usage == Usage(input_tokens=6, output_tokens=8)
    assert (metered.cost_micros, metered.waited_seconds) == (14, 1.0)
    assert [request.model for request in llm.requests] == ["small", "small"]


async def test_what_a_tool_asks_beside_itself_ends_with_its_call() -> None:
    llm = HangingProvider()
    with MeteredProvider(lambda: llm, model=None) as metered:
        asking = asyncio.create_task(metered.complete(ASKED))
        await asyncio.wait({asking}, timeout=0.01)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert llm.cut_off == 1
    with pytest.raises(asyncio.CancelledError):
        await metered.complete(ASKED)
    assert len(llm.requests) == 1


async def test_a_stream_that_a_tool_has_left_ends_nobody() -> None:
    llm = ScriptedLLMProvider(replies=[ANSWER])
    with MeteredProvider(lambda: llm, model=None) as metered:
        pieces = metered.stream(ASKED)
        await anext(pieces)
    await asyncio.sleep(0)


async def test_what_is_asked_after_a_stream_that_was_left_ends_with_the_call() -> None:
    """The loop closes that stream a little later, when the other is under way."""
    llm = StreamingProvider()

    async def ask_twice(metered: MeteredProvider) -> None:
        async for _ in metered.stream(ASKED):
            break
        await metered.complete(ASKED)

    with MeteredProvider(lambda: llm, model=None) as metered:
        asking = asyncio.create_task(ask_twice(metered))
        while not llm.requests:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
    await asyncio.wait({asking}, timeout=1)
    assert llm.cut_off == 1


async def test_a_tool_of_a_run_that_is_over_asks_nothing() -> None:
    llm = HangingProvider()
    metered = MeteredProvider(lambda: llm, model=None, over=lambda: True)
    with pytest.raises(asyncio.CancelledError):
        await metered.complete(ASKED)
    with pytest.raises(asyncio.CancelledError):
        await anext(metered.stream(ASKED))
    assert not llm.requests
