"""Plain JSON is looked through once, and what comes out is as if by pydantic itself."""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum, StrEnum
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, JsonValue, TypeAdapter, ValidationError

from conversations.json_value import MAX_DEPTH, Json, JsonObject, check_json

OBJECT = TypeAdapter[Any](JsonObject)
ANY = TypeAdapter[Any](Json)
PLAIN_OBJECT = TypeAdapter[Any](
    Annotated[dict[str, JsonValue], BeforeValidator(check_json)]
)
PLAIN_ANY = TypeAdapter[Any](Annotated[JsonValue, BeforeValidator(check_json)])


class Word(StrEnum):
    YES = "yes"


class Number(IntEnum):
    ONE = 1


class Odd:
    pass


def nested(levels: int, inner: object) -> dict[str, object]:
    value = inner
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return {"top": value}


def cyclic() -> dict[str, object]:
    value: dict[str, object] = {}
    value["self"] = value
    return value


VALUES: list[object] = [
    {},
    {"a": 1, "b": [1.5, None, True, "é", {"c": []}]},
    {"a": 1 << 62, "b": -(1 << 62), "c": (1 << 1023) - 1},
    {"a": 1 << 1023},
    {"a": float("nan")},
    {"a": [float("-inf")]},
    {"a": "\ud800"},
    {"\ud800": 1},
    {"a\0": "\0"},
    {1: "a"},
    {"a": {None: 1}},
    {"a": (1, 2)},
    {"a": Odd()},
    {"a": b"bytes"},
    {"a": {1, 2}},
    {"a": Word.YES, "b": Number.ONE},
    {Word.YES: 1},
    OrderedDict(a=OrderedDict(b=1)),
    {"a": OrderedDict(b=1)},
    nested(MAX_DEPTH - 1, "x"),
    nested(MAX_DEPTH - 1, {}),
    nested(MAX_DEPTH, "x"),
    nested(MAX_DEPTH, {}),
    nested(MAX_DEPTH + 40, "x"),
    cyclic(),
    "text",
    "\ud800",
    5,
    1.5,
    None,
    False,
    [1, {"a": 2}],
    (1, 2),
    Odd(),
]


def outcome(kind: TypeAdapter[Any], value: object) -> object:
    try:
        return kind.validate_python(value)
    except (ValidationError, RecursionError) as exc:
        return str(exc).replace("JsonObject", "").replace("Json", "")


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_each_value_is_taken_or_refused_as_before(value: object) -> None:
    for ours, plain in ((OBJECT, PLAIN_OBJECT), (ANY, PLAIN_ANY)):
        got, expected = outcome(ours, value), outcome(plain, value)
        if isinstance(expected, str) and "validation error" in expected:
            assert isinstance(got, str)
            assert got.splitlines()[2:] == expected.splitlines()[2:]
        else:
            assert got == expected
            assert type(got) is type(expected)


def test_what_is_taken_shares_nothing_with_the_callers_value() -> None:
    given = {"a": {"b": [1, {"c": 2}]}}
    taken = OBJECT.validate_python(given)
    given["a"]["b"][1]["c"] = 3  # type: ignore[index]
    given["a"]["b"].append(4)
    assert taken == {"a": {"b": [1, {"c": 2}]}}


def test_the_schema_is_that_of_plain_json() -> None:
    assert OBJECT.json_schema() == PLAIN_OBJECT.json_schema()
    assert ANY.json_schema() == PLAIN_ANY.json_schema()
    assert OBJECT.dump_json({"a": [1, None]}) == b'{"a":[1,null]}'
    assert OBJECT.validate_json('{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
