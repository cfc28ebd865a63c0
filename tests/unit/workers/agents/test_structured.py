"""Answers are checked in bounded time, whatever a schema and a model's text are."""

from __future__ import annotations

import json
import tracemalloc
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestrator.bounded_validator import BoundedValidator, bounded
from orchestrator.output_schema import schema_problem
from orchestrator.schema_pattern import MOST_PATTERNS
from workers.agents.structured import OutputFormat
from workers.errors import AgentFailed

EVIL = "^(a+)+$"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
LURE = "a" * 28 + "b"
BOUND_SECONDS = 3.0
"""Of computing. Python's `re` takes four times as long for one such text here."""


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"pattern": EVIL}, LURE, "does not match"),
        ({"patternProperties": {EVIL: False}}, {LURE: 1}, ""),
        (
            {"patternProperties": {EVIL: {}}, "additionalProperties": False},
            {LURE: 1},
            "Additional properties",
        ),
        ({"uniqueItems": True}, [{"a": n} for n in range(20_000)], ""),
    ],
)
async def test_a_check_is_linear(schema: dict, value: object, problem: str) -> None:
    began = process_time()
    _, found = await OutputFormat(schema).read(json.dumps(value))
    assert process_time() - began < BOUND_SECONDS
    assert problem in found
    assert bool(problem) == bool(found)


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": DRAFT_2020, "pattern": EVIL, "properties": {LURE: {"$ref": "#"}}},
        {"properties": {LURE: {"$schema": DRAFT_2020, "pattern": EVIL}}},
        {"properties": {LURE: {"$schema": DRAFT_7, "pattern": EVIL}}},
    ],
)
async def test_a_part_that_names_a_draft_is_checked_as_the_others(schema: dict) -> None:
    began = process_time()
    _, found = await OutputFormat(schema).read(json.dumps({LURE: LURE}))
    assert process_time() - began < BOUND_SECONDS
    assert "does not match" in found


@pytest.mark.parametrize("blank", ["\n", " \n", " "])
async def test_a_fence_that_is_never_closed_is_looked_for_once(blank: str) -> None:
    began = process_time()
    _, found = await OutputFormat({}).read("```json" + blank * 50_000)
    assert process_time() - began < BOUND_SECONDS
    assert "it is not JSON" in found


async def test_a_text_is_matched_only_by_a_pattern_that_is_small_enough() -> None:
    form = OutputFormat({"pattern": "[01]*1[01]{60000}2"})
    assert "does not match" in (await form.read('"01"'))[1]
    long = json.dumps("01" * 50_000)
    assert "100000 characters is too long for the pattern" in (await form.read(long))[1]
    form = OutputFormat({"pattern": "(?x) ^[a-z0-9 ]+$ # words"})
    assert await form.read(json.dumps("a9" * 50_000)) == ("a9" * 50_000, "")


async def test_a_chain_of_references_may_be_too_long_for_an_answer() -> None:
    parts = {f"p{n}": {"$ref": f"#/$defs/p{n + 1}"} for n in range(700)}
    parts |= {"p700": {"type": "integer"}}
    schema = {"$defs": parts, "$ref": "#/$defs/p0"}
    with pytest.raises(AgentFailed, match="nested too deeply to check the answer"):
        await OutputFormat(schema).read('"x"')


async def test_what_counts_no_keywords_ends_as_well() -> None:
    depth = 24
    parts = {
        f"p{n}": {
            "dependentSchemas": {
                name: {"$ref": f"#/$defs/p{n + 1}"} for name in ("a", "b")
            }
        }
        for n in range(depth)
    }
    parts |= {f"p{depth}": {}}
    schema = {"unevaluatedProperties": True, "$ref": "#/$defs/p0", "$defs": parts}
    with pytest.raises(AgentFailed, match="more than 5 s of a processor"):
        await OutputFormat(schema).read('{"a": 1, "b": 2}')


async def test_errors_that_are_kept_take_little_memory() -> None:
    depth = 12
    parts = {
        f"p{n}": {"anyOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2} for n in range(depth)
    }
    parts |= {f"p{depth}": {"type": "integer"}}
    form = OutputFormat({"$defs": parts, "$ref": "#/$defs/p0"})
    text = json.dumps("a" * 20_000)
    tracemalloc.start()
    _, found = await form.read(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found
    assert peak < 40_000_000  # the messages alone took 160 MB


@pytest.mark.parametrize(
    ("elsewhere", "told"),
    [
        ({"pattern": "(?=a)"}, "look-around"),
        ({"pattern": 5}, "is not of type 'string'"),
        ({"items": {"type": "whole"}}, "'whole' is not valid"),
        (
            {"patternProperties": {EVIL: {}}, "unevaluatedProperties": False},
            "beside unevaluatedProperties is not supported",
        ),
        ({"items": {"$ref": "#/nowhere"}}, "not found in it"),
    ],
)
def test_what_is_referred_to_is_a_schema_wherever_it_stands(
    elsewhere: dict, told: str
) -> None:
    schema = {"items": {"$ref": "#/parts/a"}, "parts": {"a": elsewhere}}
    assert told in schema_problem(schema)
    hidden = {"$schema": DRAFT_7, "prefixItems": [elsewhere]}
    assert told in schema_problem({"allOf": [hidden]})


def test_a_list_of_types_is_looked_through_once() -> None:
    types = [each for n in range(8_000) for each in (n, f"a{n}")]
    began = process_time()
    assert "is not a JSON Schema" in schema_problem({"type": types})
    assert process_time() - began < BOUND_SECONDS


async def test_parts_that_refer_to_one_part_twice_do_not_multiply_without_end() -> None:
    depth = 24
    parts = {
        f"p{n}": {"allOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2} for n in range(depth)
    }
    parts |= {f"p{depth}": {"type": "string"}}
    schema = {"$defs": parts, "$ref": "#/$defs/p0"}
    with pytest.raises(AgentFailed, match="it takes more than") as caught:
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
    {"not": {"$schema": DRAFT_2020, "type": "array", "contains": {"type": "null"}}},
    {"if": {"type": "integer"}, "then": {"minimum": 0}, "else": {"not": {"const": 1}}},
    {"$schema": DRAFT_2020, "oneOf": [{"type": "string"}, {"items": {"$ref": "#"}}]},
    {"anyOf": [{"type": "array"}, {"oneOf": [{"type": "integer"}, {"minimum": 1}]}]},
    {"oneOf": [{"minItems": 2}, {"uniqueItems": True}, False]},
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
