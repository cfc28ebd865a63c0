"""Tool calls come out whole, however a server cuts and numbers them."""

from __future__ import annotations

import json

import pytest

from conversations.message import ToolCall
from workers.errors import MalformedCompletion
from workers.llm.tool_calls import ToolCallAccumulator, parse_arguments


def delta(
    name: str | None = None,
    arguments: object = None,
    *,
    index: object = None,
    call_id: str | None = None,
) -> dict[str, object]:
    function = {"name": name, "arguments": arguments}
    given = {k: v for k, v in function.items() if v is not None}
    fields = {"index": index, "id": call_id, "function": given}
    return {k: v for k, v in fields.items() if v is not None}


def calls_of(
    *chunks: list[dict[str, object]],
) -> tuple[tuple[ToolCall, ...], dict[str, str]]:
    accumulator = ToolCallAccumulator()
    for chunk in chunks:
        accumulator.feed(chunk)
    return accumulator.finish()


def shapes(*chunks: list[dict[str, object]]) -> list[tuple[str, object]]:
    calls, invalid = calls_of(*chunks)
    assert not invalid
    return [(call.name, call.arguments) for call in calls]


def test_parallel_calls_that_all_have_index_0_are_told_apart_by_id():
    first = delta("look", '{"a":1}', index=0, call_id="x")
    second = delta("look", '{"a":2}', index=0, call_id="y")
    assert shapes([first], [second]) == [("look", {"a": 1}), ("look", {"a": 2})]


def test_whole_calls_with_index_0_and_no_ids_are_told_apart_by_their_objects():
    first, second = delta("f", '{"a":1}', index=0), delta("g", '{"a":2}', index=0)
    assert shapes([first], [second]) == [("f", {"a": 1}), ("g", {"a": 2})]


def test_calls_without_index_in_one_delta_are_calls_of_their_own():
    assert shapes([delta("f", "{}", call_id=""), delta("g", "{}", call_id="")]) == [
        ("f", {}),
        ("g", {}),
    ]


def test_equal_calls_without_arguments_in_one_delta_are_two():
    assert shapes([delta("look"), delta("look")]) == [("look", {}), ("look", {})]


def test_a_delta_without_index_and_id_continues_the_open_call():
    chunks = [delta("f", '{"a"', call_id="x")], [delta(arguments=":1}")]
    assert shapes(*chunks) == [("f", {"a": 1})]


def test_fragments_are_joined_and_an_empty_name_later_changes_nothing():
    text = '{"city": "Oslo", "days": 3}'
    fragments = [[delta("", part, index=0)] for part in text]
    head = [delta("weather", "", index=0, call_id="x")]
    assert shapes(head, *fragments) == [("weather", json.loads(text))]


def test_interleaved_fragments_of_two_calls_find_their_call():
    assert shapes(
        [delta("f", '{"a"', index=0, call_id="x")],
        [delta("g", '{"b"', index=1, call_id="y")],
        [delta(arguments=":1}", index=0)],
        [delta(arguments=":2}", index=1)],
    ) == [("f", {"a": 1}), ("g", {"b": 2})]


@pytest.mark.parametrize("later", ["0", 0.0])
def test_a_number_written_otherwise_is_the_same_index(later: object):
    first, more = delta("f", '{"a"', index=0), delta("", ":1}", index=later)
    assert shapes([first], [more]) == [("f", {"a": 1})]


def test_a_whole_call_in_one_chunk_needs_no_fragments():
    assert shapes([delta("f", '{"a":1}', index=0, call_id="x")]) == [("f", {"a": 1})]


def test_arguments_sent_as_an_object_are_taken():
    assert shapes([delta("f", {"a": 1}, index=0)]) == [("f", {"a": 1})]


def test_missing_arguments_are_an_empty_object():
    assert shapes([delta("f", index=0)]) == [("f", {})]


@pytest.mark.parametrize("call_id", [None, "", "x" * 257])
def test_an_unusable_id_is_replaced(call_id: str | None):
    calls, _ = calls_of([delta("f", "{}", index=0, call_id=call_id)])
    assert calls[0].id.startswith("call_")


def test_an_id_used_twice_is_given_once():
    calls, _ = calls_of(
        [delta("f", "{}", index=0, call_id="x"), delta("g", "{}", index=1, call_id="x")]
    )
    assert calls[0].id == "x"
    assert calls[1].id != "x"


def test_a_cut_last_call_is_told_and_the_others_stay_good():
    calls, invalid = calls_of(
        [delta("f", '{"a":1}', index=0, call_id="x")],
        [delta("g", "{", index=1, call_id="y")],
    )
    assert [call.arguments for call in calls] == [{"a": 1}, {}]
    assert list(invalid) == ["y"]
    assert "not valid JSON (1 characters)" in invalid["y"]


def test_two_hundred_calls_are_all_kept():
    deltas = [delta("f", "{}", index=i, call_id=f"c{i}") for i in range(200)]
    assert len(calls_of(deltas)[0]) == 200


def test_an_index_that_is_no_number_of_a_call_is_a_name():
    index = "9" * 5000
    calls, _ = calls_of([delta("f", "{", index=index), delta(None, "}", index=index)])
    assert len(calls) == 1


def test_a_call_without_a_name_is_malformed():
    with pytest.raises(MalformedCompletion, match="tool name has 0 characters"):
        calls_of([delta(arguments="{}", index=0, call_id="x")])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "must be a JSON object, not list"),
        ("nope", "not valid JSON"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": 1e999}', "NaN or Infinity"),
        ('{"a": 1, "a": 2}', "names a key twice"),
        ('{"a": "\\ud800"}', "lone surrogate"),
        ("[" * 500_000, "nested too deep"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_arguments_that_are_no_plain_object_are_told(text: str, problem: str):
    arguments, told = parse_arguments(text)
    assert arguments == {}
    assert problem in told
