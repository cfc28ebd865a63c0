"""Whether the form that an answer is asked for in is a JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

from conversations.json_value import JsonObject, loads
from orchestrator.bounded_validator import BoundedValidator, TooManySteps, bounded
from orchestrator.schema_pattern import MOST_PATTERNS, TextTooLong, matcher

_FENCED = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", re.DOTALL)
"""Has one way to read a line break: a search takes time linear in the text."""
_LISTS_IN_PLACE = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
"""What applies a schema to the very value that the schema around it is applied to."""
_REFERS = ("$ref", "$dynamicRef")
_META = BoundedValidator(
    Draft202012Validator.META_SCHEMA,
    format_checker=Draft202012Validator.FORMAT_CHECKER,
)
_MOST_STEPS = 1_000_000
"""A schema of 128 kB takes a third at most; its time is bounded as well."""


class _Endless(Exception):
    """A schema applies itself to the same value again."""


def unfenced(text: str) -> str:
    """Return an answer without the code fence that models like to put around JSON."""
    fenced = _FENCED.search(text)
    return fenced[1] if fenced else text


def json_of(answer: str) -> str:
    """Return the JSON that an answer holds; one that holds none as it is."""
    plain = unfenced(answer).strip()
    try:
        loads(plain)
    except ValueError:
        return answer  # of a kind of agent that knows no form, or of a run cut short
    return plain


def schema_problem(schema: JsonObject, *, name: str = "output_schema") -> str:
    """Say what keeps a schema, which its sender calls `name`, from being one, or ''.

    What it refers to must stand in it: nothing is fetched for a schema.
    """
    try:
        with bounded(_MOST_STEPS):
            problem = _problem_of_patterns(_schemas_of(schema))
    except SchemaError as exc:
        problem = f"{exc.message[:300]} (at {exc.json_path})"
    except (TooManySteps, TextTooLong) as exc:
        problem = f"it cannot be checked ({exc})"
    except _Endless as exc:
        problem = f"it refers to itself in circles (by {exc}), so that no check ends"
    except Unresolvable as exc:
        problem = f"$ref {str(exc.ref)[:300]!r} is not found in it"
    except (RecursionError, TypeError, ValueError) as exc:
        problem = f"it is nested too deeply or refers to no place ({str(exc)[:200]})"
    else:
        return f"{name}: {problem}" if problem else ""
    return f"{name} is not a JSON Schema: {problem}; correct it"


def registry_of(schema: JsonObject) -> Registry[Any]:
    """Return what a schema's references are looked up in: the schema alone.

    All of its anchors are known; else each look for one goes through the whole schema.
    """
    root = DRAFT202012.create_resource(schema)
    registry: Registry[Any] = EMPTY_REGISTRY.with_resource(root.id() or "", root)
    return registry.crawl()


def _problem_of_patterns(schemas: list[dict[str, Any]]) -> str:
    """Say what keeps answers from being matched in linear time, or ''."""
    patterns = {each["pattern"] for each in schemas if "pattern" in each}
    of_names = {name for each in schemas for name in each.get("patternProperties", {})}
    if of_names and any("unevaluatedProperties" in each for each in schemas):
        return (
            "patternProperties beside unevaluatedProperties is not supported;"
            " use additionalProperties"
        )
    if len(patterns | of_names) > MOST_PATTERNS:
        return f"it has more than {MOST_PATTERNS} different patterns; leave some out"
    try:
        for pattern in patterns | of_names:
            matcher(pattern)
    except ValueError as exc:
        return f"{exc}; write it in the syntax of Rust's regex, or leave it out"
    return ""


def _schemas_of(schema: JsonObject) -> list[dict[str, Any]]:
    """Return all schemas within one: also at places of other names that it refers to.

    Raises:
        SchemaError: one of them is none.
        Unresolvable: what it refers to is nowhere.
        _Endless: it leads back without having gone into the value.
    """
    _check_is_schema(schema)
    root = DRAFT202012.create_resource(schema)
    found = [(root, registry_of(schema).resolver(root.id() or ""))]
    known: dict[int, dict[str, Any]] = {}
    ending: set[int] = set()
    targets: list[Any] = []
    while found:
        resource, resolver = found.pop()
        part = resource.contents
        if isinstance(part, dict) and id(part) not in known:
            known[id(part)] = part
            _check_ends(part, resolver, set(), ending)
            targets += [resolver.lookup(part[name]) for name in _REFERS if name in part]
            inner = map(_as_ours, resource.subresources())
            found += [(each, resolver.in_subresource(each)) for each in inner]
        while targets and not found:
            target = targets.pop()
            if id(target.contents) not in known:
                _check_is_schema(target.contents)
                found.append((_as_ours(target), target.resolver))
    return list(known.values())


def _as_ours(part: Any) -> Resource[Any]:
    """Read a part as it is checked, whatever its `$schema` says."""
    return DRAFT202012.create_resource(part.contents)


def _check_is_schema(schema: object) -> None:
    for error in _META.iter_errors(schema):
        raise SchemaError.create_from(error)


def _check_ends(
    schema: object, resolver: Any, around: set[int], ending: set[int]
) -> None:
    if not isinstance(schema, dict) or id(schema) in ending:
        return
    if id(schema) in around:
        raise _Endless(schema.get("$ref") or schema.get("$dynamicRef") or "its parts")
    around.add(id(schema))
    for name in _REFERS:
        if name in schema:
            resolved = resolver.lookup(schema[name])
            _check_ends(resolved.contents, resolved.resolver, around, ending)
    for part in _parts_in_place(schema):
        inner = resolver.in_subresource(DRAFT202012.create_resource(part))
        _check_ends(part, inner, around, ending)
    around.discard(id(schema))
    ending.add(id(schema))


def _parts_in_place(schema: dict[str, Any]) -> Iterator[Any]:
    for name in _LISTS_IN_PLACE:
        yield from schema.get(name, ())
    for name in _IN_PLACE:
        if name in schema:
            yield schema[name]
    yield from schema.get("dependentSchemas", {}).values()
