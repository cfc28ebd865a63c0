"""Answers are checked in bounded time, whatever a schema and a model's text are."""

from __future__ import annotations

import json
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.output_schema import schema_problem
from orchestrator.schema_pattern import MOST_PATTERNS
from workers.agents.bounded_validator import BoundedValidator, bounded
from workers.agents.structured import OutputFormat
from workers.errors import AgentFailed

EVIL = "^(a+)+$"
OLD = "http://json-schema.org/draft-07/schema#"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
LURE = "a" * 28 + "b"
BOUND_SECONDS = 3.0
"""Python's `re` takes four times as long for one such text here."""


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"pattern": EVIL}, LURE, "does not match"),
        ({"patternProperties": {EVIL: False}}, {LURE: 1}, ""),
        (
            {"$schema": DIALECT, "pattern": EVIL, "items": {"$ref": "#"}},
            [LURE],
            "does not match",
        ),
        (
            {"patternProperties": {EVIL: {}}, "additionalProperties": False},
            {LURE: 1},
            "Additional properties",
        ),
        ({"uniqueItems": True}, [{"a": n} for n in range(20_000)], ""),
    ],
)
async def test_a_check_is_linear(schema: dict, value: object, problem: str) -> None:
    began = monotonic()
    _, found = await OutputFormat(schema).read(json.dumps(value))
    assert monotonic() - began < BOUND_SECONDS
    assert problem in found
    assert bool(problem) == bool(found)


async def test_parts_that_refer_to_one_part_twice_do_not_multiply_without_end() -> None:
    depth = 24
    parts = {
        f"p{n}": {"allOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2} for n in range(depth)
    }
    parts |= {f"p{depth}": {"type": "string"}}
    schema = {"$defs": parts, "$ref": "#/$defs/p0"}
    with pytest.raises(AgentFailed, match="more than 300000 steps") as caught:
        await OutputFormat(schema).read('"x"')
    assert caught.value.code == "invalid_output_schema"


async def test_a_long_answer_is_no_long_check() -> None:
    item = {"type": "object", "properties": {"n": {"type": "integer"}}}
    schema = {"type": "array", "items": item, "minItems": 1}
    answer = [{"n": n} for n in range(20_000)]
    assert await OutputFormat(schema).read(json.dumps(answer)) == (answer, "")


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"pattern": "(?=a)b"}, "'(?=a)b' cannot be used (look-around"),
        ({"items": {"pattern": r"(a)\1"}}, "(backreferences are not supported)"),
        ({"$defs": {"d": {"patternProperties": {"(?!a)": {}}}}}, "look-around"),
        ({"pattern": r"\w{1000}"}, "size limit"),
        (
            {"prefixItems": [{"pattern": f"p{n}"} for n in range(MOST_PATTERNS + 1)]},
            f"more than {MOST_PATTERNS} different patterns",
        ),
        (
            {"patternProperties": {"a": {}}, "not": {"unevaluatedProperties": False}},
            "beside unevaluatedProperties is not supported",
        ),
        ({"$ref": "#/more", "more": {"pattern": "(?=a)"}}, "look-around"),
        (
            {"$defs": {"d": {"$schema": OLD, "prefixItems": [{"pattern": "(?=a)"}]}}},
            "look-around",
        ),
    ],
)
def test_what_cannot_be_matched_in_linear_time_is_refused(
    schema: dict, told: str
) -> None:
    problem = schema_problem(schema, name="form")
    assert problem.startswith("form: ")
    assert told in problem


def test_as_many_patterns_as_may_be_are_taken() -> None:
    patterns = [{"pattern": f"^p{n % MOST_PATTERNS}$"} for n in range(100)]
    named = {"properties": {"pattern": {"const": {"pattern": "(?=a)"}}}}
    assert schema_problem({"prefixItems": patterns, **named}) == ""


SCHEMAS = [
    {"uniqueItems": True},
    {"uniqueItems": False},
    {"additionalProperties": False},
    {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
    {"additionalProperties": True, "patternProperties": {"^a": {"type": "string"}}},
    {"patternProperties": {"b$": {"pattern": "a"}}, "additionalProperties": False},
    {"items": {"pattern": "^a|b$"}, "unevaluatedItems": False},
    {"not": {"$schema": DIALECT, "type": "array", "contains": {"type": "null"}}},
    {"if": {"type": "integer"}, "then": {"minimum": 0}, "else": {"not": {"const": 1}}},
    {"$schema": DIALECT, "oneOf": [{"type": "string"}, {"items": {"$ref": "#"}}]},
]
NAMES = st.text("ab", max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-1, 1) | st.just(1.0) | NAMES
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


@given(schema=st.sampled_from(SCHEMAS), value=VALUES)
def test_it_finds_what_the_library_finds(schema: dict, value: object) -> None:
    expected = Draft202012Validator(schema).is_valid(value)
    with bounded():
        assert BoundedValidator(schema).is_valid(value) is expected
