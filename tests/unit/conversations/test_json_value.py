"""What the fast reader of JSON takes, beside Python's own."""

from __future__ import annotations

import json

import pytest

from conversations.json_value import NotStorable, loads, plain_json


@pytest.mark.parametrize(
    "text",
    [
        '"\ud800"',
        '"\\ud800"',
        "\ufeff{}".encode("utf-8-sig"),
        '{"a": 1, "a": 2}',
        "[1e400, -Infinity, 12345678901234567890123]",
        '{"a": "é"}'.encode("utf-16"),
        "[" * 300 + "]" * 300,
        '"\t"',
        "9" * 5000,
        "[1,]",
        b'"\xff"',
    ],
)
def test_both_readers_give_the_same_or_refuse(text: str | bytes) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            loads(text)
    else:
        assert repr(loads(text)) == repr(expected)


def test_a_tuple_becomes_the_list_that_its_reader_gets():
    assert plain_json({"a": (1, ("b",))}) == {"a": [1, ["b"]]}
    with pytest.raises(NotStorable, match=r"^o\.a: not JSON \(type set\)"):
        plain_json({"a": {1}}, path="o")
