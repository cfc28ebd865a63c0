"""One typed completion, whatever the server sent."""

from __future__ import annotations

import pytest

from conversations.json_value import JsonObject
from workers.errors import (
    CompletionRefused,
    EmptyCompletion,
    MalformedCompletion,
    StreamTruncated,
)
from workers.llm.completion_parser import CompletionAccumulator
from workers.llm.provider import Completion, FinishReason, TextDelta


def whole(message: object, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": message} | fields]}


def chunk(delta: object = None, finish: object = None) -> dict[str, object]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"choices": [choice]}


def choices_of(shape: str, content: str, finish: str) -> dict[str, object]:
    if shape == "chunk":
        return chunk({"content": content}, finish)
    return whole({"content": content}, finish_reason=finish)


def parsed(*payloads: dict[str, object], ended: bool = True) -> Completion:
    accumulator = CompletionAccumulator()
    for payload in payloads:
        accumulator.feed(payload)
    return accumulator.completion(ended=ended)


def call(name: str = "f", call_id: str = "x") -> JsonObject:
    return {"id": call_id, "function": {"name": name, "arguments": "{}"}}


def test_text_of_a_stream_is_joined():
    completion = parsed(chunk({"content": "a "}), chunk({"content": "b"}, "stop"))
    assert completion.message.content == "a b"
    assert completion.finish_reason is FinishReason.STOP


@pytest.mark.parametrize("finish", ["stop", "", None, "tool_calls", "strange"])
def test_calls_decide_by_their_presence_not_by_the_finish_reason(finish: object):
    answer = whole({"content": None, "tool_calls": [call()]}, finish_reason=finish)
    assert parsed(answer).finish_reason is FinishReason.TOOL_CALLS


def test_calls_of_a_whole_answer_without_ids_are_calls_of_their_own():
    calls = [call("f", ""), call("f", "")]
    completion = parsed(whole({"tool_calls": calls}))
    assert len({c.id for c in completion.message.tool_calls}) == 2


def test_length_is_told_even_with_calls():
    answer = whole({"tool_calls": [call()]}, finish_reason="length")
    assert parsed(answer).finish_reason is FinishReason.LENGTH


def test_a_content_filter_is_told_beside_the_text():
    answer = whole({"content": "so far"}, finish_reason="content_filter")
    assert parsed(answer).finish_reason is FinishReason.CONTENT_FILTER


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_is_kept_apart_under_the_name_it_came_with(name: str):
    completion = parsed(
        chunk({name: "hm "}), chunk({name: "yes"}), chunk({"content": "a"})
    )
    assert completion.message.content == "a"
    assert completion.message.reasoning == "hm yes"
    assert completion.message.reasoning_field == name


def test_a_first_chunk_without_choices_is_skipped():
    azure = {"choices": [], "model": "", "prompt_filter_results": []}
    assert parsed(azure, chunk({"content": "a"})).message.content == "a"


def test_the_last_usage_wins_also_after_the_finish():
    completion = parsed(
        chunk({"content": "a"}, "stop") | {"usage": {"prompt_tokens": 1}},
        {
            "choices": [],
            "model": "m-1",
            "usage": {
                "prompt_tokens": 7,
                "completion_tokens": "5",
                "prompt_tokens_details": {"cached_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
        },
    )
    assert completion.usage is not None
    assert completion.usage.model_dump() == {
        "input_tokens": 7,
        "output_tokens": 5,
        "cached_tokens": 3,
        "reasoning_tokens": 2,
        "total_tokens": 12,
    }
    assert completion.model == "m-1"


@pytest.mark.parametrize("usage", [None, "many", [], 3])
def test_usage_that_is_absent_or_odd_is_none(usage: object):
    assert parsed(whole({"content": "a"}) | {"usage": usage}).usage is None


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": -1, "completion_tokens": "x"},
        {"prompt_tokens": 1e300, "completion_tokens": 10**18},
        {"prompt_tokens": None, "completion_tokens": [3]},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": True, "completion_tokens": True},
    ],
)
def test_counts_that_cannot_be_are_no_usage(usage: object):
    assert parsed(whole({"content": "a"}) | {"usage": usage}).usage is None


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"input_tokens": 7, "output_tokens": 2}, (7, 2)),
        ({"prompt_tokens": 7, "total_tokens": 9}, (7, 2)),
        ({"total_tokens": 9}, (9, 0)),
        ({"prompt_tokens": "7", "completion_tokens": 2.0}, (7, 2)),
    ],
)
def test_usage_under_other_names_and_in_part_is_read(
    usage: object, counted: tuple[int, int]
):
    read = parsed(whole({"content": "a"}) | {"usage": usage}).usage
    assert read is not None
    assert (read.input_tokens, read.output_tokens) == counted


@pytest.mark.parametrize(
    "usage",
    [
        # xAI's, and Gemini's behind its OpenAI door
        {
            "prompt_tokens": 20,
            "completion_tokens": 10,
            "total_tokens": 90,
            "completion_tokens_details": {"reasoning_tokens": 60},
        },
        {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 90},
    ],
)
def test_reasoning_that_only_the_total_counts_is_output(usage: dict[str, object]):
    read = parsed(whole({"content": "a"}) | {"usage": usage}).usage
    assert read is not None
    assert (read.input_tokens, read.output_tokens) == (20, 70)
    assert read.total_tokens == 90
    assert read.reasoning_tokens == (60 if len(usage) == 4 else 0)


def test_usage_beside_the_last_delta_is_read():
    last = chunk({"content": "a"}, "stop")
    [choice] = last["choices"]
    choice |= {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    usage = parsed(last).usage
    assert usage is not None
    assert usage.total_tokens == 7


def test_a_last_chunk_without_counts_leaves_the_earlier_usage():
    first = chunk({"content": "a"}) | {"usage": {"prompt_tokens": 7}}
    last = chunk({}, "stop") | {"usage": {}}
    usage = parsed(first, last).usage
    assert usage is not None
    assert usage.input_tokens == 7


@pytest.mark.parametrize("index", [0, None, "0", 0.0])
def test_the_first_choice_is_read_however_it_is_numbered(index: object):
    answer = {"choices": [{"index": index, "message": {"content": "a"}}]}
    assert parsed(answer).message.content == "a"


@pytest.mark.parametrize("index", [1, [], {}, "x", True])
def test_another_choice_is_not_the_answer(index: object):
    answer = {"choices": [{"index": index, "message": {"content": "a"}}]}
    with pytest.raises(MalformedCompletion):
        parsed(answer)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("STOP", FinishReason.STOP),
        ("end_turn", FinishReason.STOP),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("content_filter: PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("novelty", FinishReason.STOP),
    ],
)
def test_every_vendor_s_finish_reason_is_understood(finish: str, reason: FinishReason):
    answer = parsed(chunk({"content": "a"}), chunk({}, finish))
    assert answer.finish_reason is reason


@pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource"])
@pytest.mark.parametrize("shape", ["chunk", "whole"])
def test_an_answer_that_the_server_gave_up_is_no_answer(finish: str, shape: str):
    with pytest.raises(StreamTruncated, match=finish):
        parsed(choices_of(shape, "half an", finish))


def test_a_call_that_the_endpoint_could_not_parse_is_malformed():
    with pytest.raises(MalformedCompletion, match="ask again"):
        parsed(whole({"content": None}, finish_reason="MALFORMED_FUNCTION_CALL"))


def test_an_empty_answer_that_a_filter_ended_is_a_refusal():
    with pytest.raises(CompletionRefused):
        parsed(whole({"content": ""}, finish_reason="SAFETY"))


def test_thoughts_among_the_parts_of_the_content_are_reasoning():
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    content = [thought, {"type": "text", "text": "yes"}]
    message = parsed(whole({"content": content})).message
    assert (message.content, message.reasoning) == ("yes", "hm")


def test_a_function_call_of_the_old_form_is_a_tool_call():
    chunks = [
        chunk({"function_call": {"name": "look", "arguments": '{"a":'}}),
        chunk({"function_call": {"arguments": "1}"}}, "function_call"),
    ]
    [call] = parsed(*chunks).message.tool_calls
    assert (call.name, call.arguments) == ("look", {"a": 1})


def test_empty_finish_reasons_count_as_none_until_the_endpoint_says_done():
    chunks = [chunk({"content": "a"}, ""), chunk({"content": "b"}, "")]
    assert parsed(*chunks, ended=True).message.content == "ab"
    with pytest.raises(StreamTruncated):
        parsed(*chunks, ended=False)


def test_a_stream_with_a_finish_needs_no_closing_event():
    assert parsed(chunk({"content": "a"}, "stop"), ended=False).message.content == "a"


def test_a_second_choice_is_ignored():
    other = {"index": 1, "delta": {"content": "other"}}
    completion = parsed({"choices": [other]}, chunk({"content": "a"}))
    assert completion.message.content == "a"


def test_content_in_parts_is_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}, 3]
    assert parsed(whole({"content": parts})).message.content == "ab"


def test_surrogate_halves_in_two_chunks_make_one_character():
    chunks = [chunk({"content": "\ud83d"}), chunk({"content": "\ude00"})]
    assert parsed(*chunks).message.content == "😀"


def test_every_delta_can_be_stored():
    accumulator = CompletionAccumulator()
    accumulator.feed(chunk({"content": "\ud83d"}))
    delta = accumulator.added()
    assert delta is not None
    assert delta.text == "\ufffd"


def test_what_came_together_is_told_together_and_once():
    accumulator = CompletionAccumulator()
    accumulator.feed(chunk({"reasoning": "hm"}))
    accumulator.feed(chunk({"content": "\ud83d"}))
    accumulator.feed(chunk({"content": "\ude00"}))
    assert accumulator.added() == TextDelta("\U0001f600", "hm")
    assert accumulator.added() is None
    accumulator.feed(chunk({"content": "!"}, "stop"))
    assert accumulator.added() == TextDelta("!")
    assert accumulator.completion(ended=True).message.content == "\U0001f600!"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": {}},
        {"choices": [None]},
        {"choices": [{"index": 0, "message": None}]},
        {"choices": [{"index": 0, "text": "old", "finish_reason": "stop"}]},
    ],
)
def test_an_answer_without_choices_is_malformed(payload: dict[str, object]):
    with pytest.raises(MalformedCompletion, match="no choices"):
        parsed(payload)


def test_neither_text_nor_calls_is_empty():
    with pytest.raises(EmptyCompletion, match="neither text nor a tool call"):
        parsed(whole({"content": " \n"}, finish_reason="stop"))


def test_what_an_answer_took_is_told_where_it_cannot_be_used():
    counts = {"prompt_tokens": 7, "completion_tokens": 90}
    with pytest.raises(EmptyCompletion) as caught:
        parsed(whole({"content": ""}, finish_reason="length") | {"usage": counts})
    assert caught.value.usage is not None
    assert caught.value.usage.total_tokens == 97


def test_an_output_limit_used_up_by_reasoning_names_the_remedy():
    with pytest.raises(EmptyCompletion, match="raise max_output_tokens"):
        parsed(whole({"content": "", "reasoning": "hm"}, finish_reason="length"))


@pytest.mark.parametrize(
    "answer",
    [
        whole({"content": None, "refusal": "I cannot do that"}),
        whole({"content": ""}, finish_reason="content_filter"),
        {"choices": [{"index": 0, "message": None, "finish_reason": "safety"}]},
        {"choices": [{"index": 0, "finish_reason": "content_filter"}]},
    ],
)
def test_a_refusal_is_told(answer: dict[str, object]):
    with pytest.raises(CompletionRefused):
        parsed(answer)


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0}, 5, "absent"])
def test_groqs_own_count_of_a_stream_is_read_where_it_stands(usage: object):
    counted = {"prompt_tokens": 18, "completion_tokens": 7, "total_tokens": 25}
    last = chunk({}, "stop") | {"x_groq": {"id": "req_1", "usage": counted}}
    if usage != "absent":
        last["usage"] = usage
    completion = parsed(chunk({"content": "a"}) | {"x_groq": {"id": "req_1"}}, last)
    assert completion.usage is not None
    assert completion.usage.input_tokens == 18
    assert completion.usage.output_tokens == 7


@pytest.mark.parametrize("facts", [None, 1, [], {}, {"usage": None}, {"usage": []}])
def test_groqs_facts_without_a_count_count_nothing(facts: object):
    answer = chunk({"content": "a"}, "stop") | {"x_groq": facts}
    assert parsed(answer).usage is None
