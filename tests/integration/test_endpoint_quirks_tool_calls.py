"""Tool calls as real servers send them; rows of the table of quirks by number."""

from __future__ import annotations

import pytest

from tests.integration.canned import call, delta, events, whole
from tests.integration.llm_serving import ask, failing, serving
from workers.errors import MalformedCompletion
from workers.llm.double_script import HttpReply
from workers.llm.provider import Completion, FinishReason

A, B = '{"q": "a"}', '{"q": "b"}'
WANTED = [{"q": "a"}, {"q": "b"}]


async def completion_of(reply: HttpReply, *, stream: bool) -> Completion:
    async with serving([reply]) as (_, provider):
        return await ask(provider, stream)


def calls_in(*deltas: dict[str, object], finish: str = "tool_calls") -> HttpReply:
    """A stream with one delta for each."""
    return events(*[delta(tool_calls=[d]) for d in deltas], delta(finish))


def message_with(*calls: object, finish: str = "tool_calls") -> HttpReply:
    return whole({"content": None, "tool_calls": list(calls)}, finish=finish)


TWO_CALLS = {
    "1 every call has index 0": calls_in(
        call(A, index=0, id="x"), call(B, index=0, id="y")
    ),
    "1 index 0 and no ids, each complete": calls_in(call(A, index=0), call(B, index=0)),
    "2 no index, one array": events(
        delta(tool_calls=[call(A, id="x"), call(B, id="y")]), delta("tool_calls")
    ),
    "2 no index, continued without id": calls_in(
        call('{"q": ', id="x"),
        call('"a"}', name=None),
        call('{"q": ', id="y"),
        call('"b"}', name=None),
    ),
    "3 fragments with an empty name": calls_in(
        call("", index=0, id="x"),
        *[call(char, index=0, name="") for char in A],
        call("", index=1, id="y"),
        *[call(char, index=1, name="") for char in B],
    ),
    "4 a whole call in one chunk": calls_in(
        call(A, index=0, id="x"), call(B, index=1, id="y")
    ),
    "4 arguments as an object": calls_in(
        call({"q": "a"}, index=0, id="x"), call({"q": "b"}, index=1, id="y")
    ),
    "5 ids empty": calls_in(call(A, index=0, id=""), call(B, index=1, id="")),
    "6 finish reason stop": calls_in(
        call(A, index=0, id="x"), call(B, index=1, id="y"), finish="stop"
    ),
    "E14 one id twice": calls_in(call(A, index=0, id="x"), call(B, index=1, id="x")),
    "1 document": message_with(call(A, index=0, id="x"), call(B, index=0, id="y")),
    "2 document": message_with(call(A, id="x"), call(B, id="y")),
    "5 document": message_with(call(A), call(B, id="")),
    "6 document": message_with(call(A, id="x"), call(B, id="y"), finish="stop"),
    "E14 document, one id twice": message_with(call(A, id="x"), call(B, id="x")),
}


@pytest.mark.parametrize("row", TWO_CALLS)
async def test_two_calls_stay_two_calls(row: str):
    stream = TWO_CALLS[row].headers["content-type"] == "text/event-stream"
    completion = await completion_of(TWO_CALLS[row], stream=stream)
    calls = completion.message.tool_calls
    assert [each.arguments for each in calls] == WANTED
    assert [each.name for each in calls] == ["look", "look"]
    assert len({each.id for each in calls} - {""}) == 2
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    assert not completion.invalid_arguments


BAD_ARGUMENTS = {
    "7 truncated": "{",
    "E13 not JSON": "q=a",
    "E13 a list": "[1]",
    "E13 NaN": '{"q": NaN}',
    "E13 a key twice": '{"q": 1, "q": 2}',
    "E13 nested 10,000 deep": '{"q":' + "[" * 10_000 + "]" * 10_000 + "}",
    "E13 5 MB": '{"q": "' + "x" * 5_000_000 + '"}',
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("row", BAD_ARGUMENTS)
async def test_unusable_arguments_are_told_and_never_kept(row: str, stream: bool):
    bad = call(BAD_ARGUMENTS[row], index=1, id="y")
    good = call(A, index=0, id="x")
    reply = calls_in(good, bad) if stream else message_with(good, bad)
    completion = await completion_of(reply, stream=stream)
    assert [each.arguments for each in completion.message.tool_calls] == [
        {"q": "a"},
        {},
    ]
    assert list(completion.invalid_arguments) == ["y"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_call_cut_at_the_token_limit_is_flagged(stream: bool):
    cut = call("{", index=0, id="x")
    reply = (
        calls_in(cut, finish="length") if stream else message_with(cut, finish="length")
    )
    completion = await completion_of(reply, stream=stream)
    assert completion.finish_reason is FinishReason.LENGTH
    assert list(completion.invalid_arguments) == ["x"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_two_hundred_parallel_calls_keep_their_own_ids(stream: bool):
    many = [call(A, index=i) for i in range(200)]
    reply = calls_in(*many) if stream else message_with(*many)
    completion = await completion_of(reply, stream=stream)
    assert len({each.id for each in completion.message.tool_calls}) == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_call_without_a_name_is_malformed(stream: bool):
    nameless = call(A, index=0, id="x", name=None)
    reply = calls_in(nameless) if stream else message_with(nameless)
    assert isinstance(await failing([reply], stream), MalformedCompletion)
