"""Answers as data: what the model is told, and whether its text fits the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import best_match
from pydantic import JsonValue
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

from conversations.json_value import JsonObject, check_json
from workers.errors import AgentFailed

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_ORDER = (
    "Your final answer must be one JSON value that fits this JSON Schema, and nothing"
    " else: no explanation, no code fence.\n"
)


_LISTS_IN_PLACE = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
"""What applies a schema to the very value that the schema around it is applied to."""


class _Endless(Exception):
    """A schema applies itself to the same value again."""


def schema_problem(schema: JsonObject) -> str:
    """Say what keeps an `output_schema` from being one, or ''.

    What it refers to must stand in it: nothing is fetched for a schema.
    """
    try:
        Draft202012Validator.check_schema(schema)
        _check_references(DRAFT202012.create_resource(schema))
    except SchemaError as exc:
        problem = f"{exc.message[:300]} (at {exc.json_path})"
    except _Endless as exc:
        problem = f"it refers to itself in circles (by {exc}), so that no check ends"
    except Unresolvable as exc:
        problem = f"$ref {str(exc.ref)[:300]!r} is not found in it"
    except (RecursionError, TypeError, ValueError) as exc:
        problem = f"it is nested too deeply or refers to no place ({str(exc)[:200]})"
    else:
        return ""
    return f"output_schema is not a JSON Schema: {problem}; correct it"


def _check_references(root: Resource[Any]) -> None:
    """Look up what the schema refers to.

    Raises:
        Unresolvable: some of it is nowhere.
        _Endless: it leads back without having gone into the value.
    """
    found = [(root, EMPTY_REGISTRY.resolver_with_root(root))]
    ending: set[int] = set()
    while found:
        resource, resolver = found.pop()
        _check_ends(resource.contents, resolver, set(), ending)
        found += [
            (each, resolver.in_subresource(each)) for each in resource.subresources()
        ]


def _check_ends(
    schema: object, resolver: Any, around: set[int], ending: set[int]
) -> None:
    if not isinstance(schema, dict) or id(schema) in ending:
        return
    if id(schema) in around:
        raise _Endless(schema.get("$ref") or schema.get("$dynamicRef") or "its parts")
    around.add(id(schema))
    for name in ("$ref", "$dynamicRef"):
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


class OutputFormat:
    """The schema of an agent's answer."""

    def __init__(self, schema: JsonObject) -> None:
        """Take a JSON Schema (draft 2020-12).

        Raises:
            AgentFailed: it is none; says where.
        """
        if problem := schema_problem(schema):
            raise AgentFailed(problem, code="invalid_output_schema")
        self.schema = schema

    @property
    def instructions(self) -> str:
        """What the system prompt says, for servers that ignore `response_format`."""
        return _ORDER + json.dumps(self.schema, ensure_ascii=False)

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self.schema, registry=EMPTY_REGISTRY)

    def read(self, text: str) -> tuple[JsonValue, str]:
        """Return the value that a text holds and what is wrong with it, or ''."""
        fenced = _FENCED.search(text)
        try:
            value = check_json(json.loads(fenced[1] if fenced else text))
        except (ValueError, RecursionError) as exc:
            return None, f"it is not JSON ({str(exc)[:200]})"
        error = best_match(self._validator.iter_errors(value))
        if error is not None:
            return None, f"{error.json_path}: {error.message[:500]}"
        return value, ""
