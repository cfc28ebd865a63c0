"""Answers as data, and what becomes of a run whose budget is spent."""

from __future__ import annotations

import time

import pytest

from conversations.message import Message, ToolCall
from orchestrator.task import StopReason
from tests.unit.workers.agents.bench import Bench, assert_valid_turn
from workers.agents.llm_agent import LLMAgent
from workers.errors import AgentFailed, BudgetExceeded, MalformedCompletion
from workers.llm.provider import Completion

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


async def test_an_answer_that_fits_the_schema_becomes_data():
    bench = Bench(['```json\n{"city": "Oslo"}\n```'], output_schema=SCHEMA)
    result = await bench.execute(LLMAgent(), {"prompt": "where?"})
    assert result.output == {"city": "Oslo"}
    request = bench.llm.requests[0]
    assert request.output_schema == SCHEMA
    assert '"required": ["city"]' in request.messages[0].content


async def test_a_schema_of_many_anchors_keeps_the_loop_for_a_moment_alone():
    """Each look for one went through the whole schema: half a minute for these."""
    anchors = {f"d{n}": {"$anchor": f"a{n}"} for n in range(1200)}
    schema = {"$defs": anchors, "allOf": [{"$ref": f"#a{n}"} for n in range(1200)]}
    bench = Bench(['"Oslo"'], output_schema=schema)
    begun = time.process_time()
    result = await bench.execute(LLMAgent(), {"prompt": "where?"})
    assert result.output == "Oslo"
    assert time.process_time() - begun < 8


async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_error():
    replies = ["Oslo!", '{"town": "Oslo"}', '{\n "city" :\t"Oslo"}']
    bench = Bench(replies, output_schema=SCHEMA)
    result = await bench.execute(LLMAgent(), {"prompt": "where?"})
    assert result.output == {"city": "Oslo"}
    assert "it is not JSON" in bench.llm.requests[1].messages[-1].content
    assert "'city' is a required" in bench.llm.requests[2].messages[-1].content
    assert [message.role for message in result.messages] == ["user", "assistant"]


async def test_an_answer_that_never_fits_fails_by_name():
    bench = Bench(["a", "b", "c"], output_schema=SCHEMA)
    with pytest.raises(AgentFailed, match="does not fit output_schema") as caught:
        await bench.execute(LLMAgent(), {"prompt": "where?"})
    assert caught.value.code == "invalid_output"


@pytest.mark.parametrize("words", ["Oslo!", ""])
async def test_a_call_with_a_repaired_answer_is_passed_over(words: str):
    """Of a tool that is not offered then: a call without a result ends a history."""
    calls = (ToolCall(id="c", name="none"),)
    replies = [
        Completion(message=Message(role="assistant", content=text, tool_calls=calls))
        for text in (words, '{"city": "Oslo"}')
    ]
    bench = Bench(["Oslo!", *replies], output_schema=SCHEMA)
    result = await bench.execute(LLMAgent(), {"prompt": "where?"})
    assert result.output == {"city": "Oslo"}
    assert_valid_turn(result.messages)
    for request in bench.llm.requests:
        assert all(each.content and not each.tool_calls for each in request.messages)


async def test_a_schema_that_is_none_is_named():
    with pytest.raises(AgentFailed, match="not a JSON Schema"):
        await Bench([], output_schema={"type": 7}).execute(
            LLMAgent(), {"prompt": "where?"}
        )


SPENT = BudgetExceeded("the budget is spent")


async def test_a_spent_budget_ends_with_a_last_short_answer():
    bench = Bench([SPENT, "what I know"])
    result = await bench.execute(LLMAgent(), {"prompt": "go"})
    assert (result.content, result.stop_reason) == ("what I know", StopReason.BUDGET)
    assert result.partial
    assert bench.llm.requests[1].max_output_tokens == 512


async def test_a_last_answer_that_cannot_be_paid_leaves_the_last_words():
    called = Completion(
        message=Message(
            role="assistant",
            content="I look it up",
            tool_calls=(ToolCall(id="c", name="none"),),
        )
    )
    result = await Bench([called, SPENT, SPENT]).execute(LLMAgent(), {"prompt": "go"})
    assert (result.content, result.partial) == ("I look it up", True)


async def test_without_any_words_a_spent_budget_is_the_failure():
    with pytest.raises(BudgetExceeded):
        await Bench([SPENT, SPENT]).execute(LLMAgent(), {"prompt": "go"})


async def test_a_spent_budget_fails_at_once_where_so_configured():
    bench = Bench([SPENT, "unused"], budget={"when_spent": "fail"})
    with pytest.raises(BudgetExceeded):
        await bench.execute(LLMAgent(), {"prompt": "go"})


async def test_unusable_arguments_turn_after_turn_fail_by_name():
    bad = {"tool_calls": [{"name": "look", "arguments": "{"}]}
    with pytest.raises(AgentFailed, match="3 turns in a row") as caught:
        await Bench([bad] * 3).execute(LLMAgent(), {"prompt": "go"})
    assert caught.value.code == "invalid_tool_arguments"


async def test_a_call_that_the_server_could_not_parse_is_asked_for_once_more():
    result = await Bench([MalformedCompletion("unparsable"), "fine"]).execute(
        LLMAgent(), {"prompt": "go"}
    )
    assert result.content == "fine"


def look(city: str) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return f"rain in {city}"


CALLED = {"tool_calls": [{"name": "look", "arguments": {"city": "Oslo"}}]}


@pytest.mark.parametrize("replies", [["no", CALLED, "found"], ["no", "no again"]])
async def test_a_required_call_that_was_not_made_is_asked_for_once_more(
    replies: list[object],
):
    bench = Bench(list(replies), tools=[look])
    result = await bench.execute(
        LLMAgent(), {"prompt": "go"}, parameters={"tool_choice": "required"}
    )
    assert result.content == replies[-1]
    assert "call one of your tools" in bench.prompt(1)[-1].content
    assert len(bench.llm.requests) == len(replies)
    assert_valid_turn(result.messages)
    assert all("must call" not in message.content for message in result.messages)


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_a_call_that_nobody_requires_is_not_asked_for(choice: str):
    bench = Bench(["no"], tools=[look])
    parameters = {"tool_choice": choice}
    result = await bench.execute(LLMAgent(), {"prompt": "go"}, parameters=parameters)
    assert result.content == "no"
