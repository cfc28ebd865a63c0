"""JSON Schema's checks in bounded time, whatever the schema and the value are.

Both may come from somebody else: a client sends the one, and a model says as the other
what it was told to say. Not bounded in `jsonschema` are regular expressions, parts that
refer to the same part several times, and the comparison of each item with each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from orchestrator.schema_pattern import matcher

MOST_STEPS: Final = 300_000
"""Keywords applied in one check: about a second; 10,000 values take some 30,000."""

Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterable[ValidationError] | None]
_steps: ContextVar[Iterator[int]] = ContextVar("steps")


class TooManySteps(Exception):
    """A schema applies more keywords to a value than a check may take."""


@contextmanager
def bounded() -> Iterator[None]:
    """Bound the checks within, by `BoundedValidator`, together.

    Raises:
        TooManySteps: they would take longer.
    """
    token = _steps.set(count())
    try:
        yield
    finally:
        _steps.reset(token)


def _counted(keyword: Keyword) -> Keyword:
    def check(
        validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterable[ValidationError] | None:
        if next(_steps.get()) >= MOST_STEPS:
            raise TooManySteps(f"it takes more than {MOST_STEPS} steps")
        return keyword(validator, rule, value, schema)

    return check


def _pattern(
    validator: Any, pattern: str, value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and not matcher(pattern)(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, rule: Mapping[str, Any], value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    for pattern, schema in rule.items():
        for name in filter(matcher(pattern), value):
            yield from validator.descend(
                value[name], schema, path=name, schema_path=pattern
            )


def _additional_properties(
    validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    known = schema.get("properties", {})
    matchers = [*map(matcher, schema.get("patternProperties", {}))]
    more = [
        name
        for name in value
        if name not in known and not any(matches(name) for matches in matchers)
    ]
    if rule is False and more:
        names = ", ".join(map(repr, more))
        yield ValidationError(f"Additional properties are not allowed ({names})")
    elif validator.is_type(rule, "object"):
        for name in more:
            yield from validator.descend(value[name], rule, path=name)


def _unique_items(
    validator: Any, rule: Any, value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if rule and validator.is_type(value, "array"):
        texts = {json.dumps(_alike(item), sort_keys=True) for item in value}
        if len(texts) < len(value):
            yield ValidationError("the array has non-unique elements")


def _alike(value: Any) -> Any:
    """Return what is written alike where JSON Schema has two values for equal."""
    if isinstance(value, dict):
        return {name: _alike(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_alike(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_LINEAR: Final[dict[str, Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}

BoundedValidator: Final = extend(
    Draft202012Validator,
    {
        name: _counted(keyword)
        for name, keyword in {**Draft202012Validator.VALIDATORS, **_LINEAR}.items()
    },
)

_evolve = BoundedValidator.evolve


def _evolve_bounded(validator: Any, **changes: Any) -> Any:
    """Check a part in the same way; jsonschema's own obeys a `$schema` within it."""
    evolved = _evolve(validator, **changes)
    if isinstance(evolved, BoundedValidator):
        return evolved
    return BoundedValidator(
        evolved.schema, registry=evolved._registry, _resolver=evolved._resolver
    )


BoundedValidator.evolve = _evolve_bounded
