"""Whether the form that an answer is asked for in is a JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY

from conversations.json_value import JsonObject

_LISTS_IN_PLACE = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
"""What applies a schema to the very value that the schema around it is applied to."""


class _Endless(Exception):
    """A schema applies itself to the same value again."""


def schema_problem(schema: JsonObject, *, name: str = "output_schema") -> str:
    """Say what keeps a schema, which its sender calls `name`, from being one, or ''.

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
    return f"{name} is not a JSON Schema: {problem}; correct it"


def registry_of(schema: JsonObject) -> Registry[Any]:
    """Return what a schema's references are looked up in: the schema alone.

    All of its anchors are known; else each look for one goes through the whole schema.
    """
    root = DRAFT202012.create_resource(schema)
    registry: Registry[Any] = EMPTY_REGISTRY.with_resource(root.id() or "", root)
    return registry.crawl()


def _check_references(root: Resource[Any]) -> None:
    """Look up what the schema refers to.

    Raises:
        Unresolvable: some of it is nowhere.
        _Endless: it leads back without having gone into the value.
    """
    found = [(root, registry_of(root.contents).resolver(root.id() or ""))]
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
