"""The scripted provider answers in order, records and complains."""

from __future__ import annotations

import pytest

from conversations.message import Message, ToolCall
from workers.errors import RateLimited, RequestRejected
from workers.llm.provider import Completion, CompletionRequest, FinishReason, TextDelta
from workers.llm.reply import Reply, ScriptedCall
from workers.llm.scripted import ScriptedLLMProvider

ASKED = CompletionRequest(messages=(Message(role="user", content="hello there"),))


async def test_without_replies_it_says_that_no_model_was_called():
    llm = ScriptedLLMProvider("http://localhost:11434/v1", model="gpt-oss:20b")
    completion = await llm.complete(ASKED)
    assert "scripted reply for model gpt-oss:20b" in completion.message.content
    assert "no model was called" in completion.message.content
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0
    await llm.aclose()


async def test_replies_come_in_order_and_an_extra_call_is_refused():
    call = ToolCall(id="c1", name="look", arguments={"a": 1})
    llm = ScriptedLLMProvider(replies=[call, [call], "done", RateLimited("wait")])
    first = await llm.complete(ASKED)
    assert first.message.tool_calls == (call,)
    assert first.finish_reason is FinishReason.TOOL_CALLS
    assert (await llm.complete(ASKED)).message.tool_calls == (call,)
    assert (await llm.complete(ASKED)).message.content == "done"
    assert len(llm.unused) == 1
    with pytest.raises(RateLimited):
        await llm.complete(ASKED)
    with pytest.raises(RequestRejected, match="no reply for call 5"):
        await llm.complete(ASKED)
    assert llm.requests == [ASKED] * 5


async def test_a_function_of_the_request_may_answer():
    llm = ScriptedLLMProvider(replies=lambda r: r.messages[-1].content.upper())
    assert (await llm.complete(ASKED)).message.content == "HELLO THERE"


async def test_a_finished_completion_is_returned_as_it_is():
    completion = Completion(message=Message(role="assistant", content="x"))
    assert await ScriptedLLMProvider(replies=[completion]).complete(ASKED) is completion


async def test_arguments_that_a_model_got_wrong_are_told():
    reply = Reply(tool_calls=(ScriptedCall(name="f", arguments="{nope", id="c1"),))
    completion = await ScriptedLLMProvider(replies=[reply]).complete(ASKED)
    assert completion.message.tool_calls[0].arguments == {}
    assert "c1" in completion.invalid_arguments


async def test_a_stream_ends_with_the_whole_completion():
    llm = ScriptedLLMProvider(replies=[{"text": "one two", "reasoning": "hm"}])
    *pieces, last = [piece async for piece in llm.stream(ASKED)]
    assert [p.text for p in pieces if isinstance(p, TextDelta)] == ["one ", "two"]
    assert isinstance(last, Completion)
    assert last.message.reasoning == "hm"
