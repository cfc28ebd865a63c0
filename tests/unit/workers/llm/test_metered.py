"""What is counted of a tool's own completions."""

from __future__ import annotations

from conversations.message import Message, Role
from orchestrator.task import Usage
from workers.llm.metered import MeteredProvider
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider

ASKED = CompletionRequest(messages=(Message(role=Role.USER, content="Hello"),))
ANSWER = Completion(
    message=Message(role=Role.ASSISTANT, content="Hi"),
    usage=Usage(input_tokens=3, output_tokens=4),
    cost_micros=7,
    gate_wait_seconds=0.5,
)


async def test_tokens_money_and_waits_of_all_of_them_are_summed() -> None:
    llm = ScriptedLLMProvider(replies=[ANSWER, ANSWER])
    metered = MeteredProvider(lambda: llm, model="small")
    await metered.complete(ASKED)
    pieces = [piece async for piece in metered.stream(ASKED)]
    assert pieces[-1] == ANSWER
    assert metered.usage == Usage(input_tokens=6, output_tokens=8)
    assert (metered.cost_micros, metered.waited_seconds) == (14, 1.0)
    assert [request.model for request in llm.requests] == ["small", "small"]
