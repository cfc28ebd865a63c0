"""Events, however a server breaks its lines and the network its chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.llm.event_stream import DONE, NOT_JSON, EventStream

ONE, TWO = {"a": 1}, {"b": "ü \u2028"}
PLAIN = f"data: {json.dumps(ONE)}\n\ndata: {json.dumps(TWO, ensure_ascii=False)}\n\n"
END = "data: [DONE]\n\n"


def values(text: str | bytes, *, size: int | None = None) -> list[Any]:
    raw = text.encode() if isinstance(text, str) else text
    stream = EventStream()
    size = size or len(raw) or 1
    seen: list[Any] = []
    for start in range(0, len(raw), size):
        seen += stream.feed(raw[start : start + size])
    return [*seen, *stream.end()]


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PLAIN + END, id="as most do"),
        pytest.param((PLAIN + END).replace("\n", "\r\n"), id="CRLF"),
        pytest.param((PLAIN + END).replace("\n", "\r"), id="CR"),
        pytest.param("\ufeff" + PLAIN + END, id="byte order mark"),
        pytest.param((PLAIN + END).replace("data: ", "data:"), id="no space"),
        pytest.param((PLAIN + END).replace("\n\n", "\n"), id="no blank lines"),
        pytest.param((PLAIN + END).rstrip(), id="no last line end"),
        pytest.param(f": keepalive\n\n{PLAIN}:\n\n{END}", id="comments"),
        pytest.param(
            f"id: 1\nretry: 10\nevent: message\n{PLAIN}novelty: x\n{END}",
            id="other fields",
        ),
        pytest.param(
            'data: {"a":\ndata: 1}\n\ndata: {\ndata:\n'
            'data: "b": "ü \u2028"\ndata: }\n\n' + END,
            id="data on several lines",
        ),
    ],
)
def test_events_are_read_however_they_are_cut(text: str, size: int | None):
    assert values(text, size=size) == [ONE, TWO, DONE]


@pytest.mark.parametrize(
    "text",
    [
        "data: {nope\n\n",
        "data: {nope\n",
        "data: {nope\ndata: too}\n\n",
        "data: \xff\n\n".encode("latin-1"),
        "{nope\n",
        "data: " + "[" * 100_000 + "\n\n",
    ],
)
def test_data_that_is_no_json_is_told(text: str | bytes):
    assert values(text) == [NOT_JSON]


def test_a_line_that_was_cut_is_no_event_and_no_error():
    assert values('data: {"a": 1}\n\ndata: {"b": ') == [ONE]
    assert values("data: [DO") == []


def test_a_last_event_without_its_line_end_counts():
    assert values('data: {"a": 1}') == [ONE]
    assert values("data: [DONE]") == [DONE]


@pytest.mark.parametrize(
    "text",
    [
        'error: {"code": 500, "message": "x"}\n\n',
        'event: error\ndata: {"code": 500, "message": "x"}\n\n',
        'data: {"error": {"code": 500, "message": "x"}}\n\n',
        'event: error\ndata: {"error": {"code": 500, "message": "x"}}\n\n',
        '{"error": {"code": 500, "message": "x"}}\n',
    ],
)
def test_errors_are_read_in_every_form(text: str):
    assert values(text) == [{"error": {"code": 500, "message": "x"}}]


def test_an_error_in_words_is_one():
    assert values("error: out of memory\n\n") == [{"error": "out of memory"}]


def test_the_type_of_an_event_ends_with_it():
    assert values('event: error\n\ndata: {"a": 1}\n\n') == [ONE]


def test_many_lines_that_are_no_json_are_read_in_one_go():
    assert values("data: {\n" * 200_000 + "\n") == [NOT_JSON]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param('{"a": "\\ud83d"}', {"a": "\ud83d"}, id="half of a surrogate"),
        pytest.param('{"a": NaN, "b": 1}', None, id="no number"),
        pytest.param('{"a": 1' + "0" * 30 + "}", {"a": 10**30}, id="a large number"),
        pytest.param('{"a": 1, "a": 2}', {"a": 2}, id="a name twice"),
        pytest.param('{"a": ' + "[" * 300 + "]" * 300 + "}", None, id="deep"),
    ],
)
def test_json_is_taken_as_by_pythons_own_reader(data: str, expected: Any):
    [value] = values(f"data: {data}\n\n")
    assert repr(value) == repr(json.loads(data))
    assert expected is None or value == expected
