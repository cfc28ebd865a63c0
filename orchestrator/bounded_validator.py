"""JSON Schema's checks in bounded time and memory, whatever schema and value are.

Both may come from somebody else: a client sends the one, and a model says as the other
what it was told to say. Not bounded in `jsonschema` are regular expressions, parts that
refer to the same part several times, the comparison of each item with each other, and
messages that repeat the value. Nor are the checkers that it takes instead of this one
for a part with a `$schema`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import thread_time
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from orchestrator.schema_pattern import fitting_matcher

MOST_STEPS: Final = 300_000
"""Keywords applied in one check: about a second; 10,000 values take some 30,000."""
MOST_SECONDS: Final = 5.0
"""Of a processor, for a step that takes longer than most: an `enum` of thousands."""
_STEPS_OF_AN_ERROR: Final = 8
"""Those that are kept until the last branch is tried, some 2 kB each."""
_SHOWN_CHARACTERS: Final = 500

Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterable[ValidationError] | None]
Matcher = Callable[[str], bool]


class TooManySteps(Exception):
    """A schema applies more to a value than a check may take."""


class _Check:
    """What one check has taken, and the patterns that it has made.

    They are not shared: checks beside each other would make them anew for each value.
    """

    def __init__(self, most_steps: int) -> None:
        self._most_steps = self._steps_left = most_steps
        self._ends_at = thread_time() + MOST_SECONDS
        self._matchers: dict[tuple[str, int], Matcher] = {}

    def take(self, steps: int = 1) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise TooManySteps(f"it takes more than {self._most_steps} steps")
        if thread_time() > self._ends_at:
            raise TooManySteps(f"it takes more than {MOST_SECONDS:g} s of a processor")

    def matches(self, pattern: str, text: str) -> bool:
        return fitting_matcher(pattern, text, self._matchers)(text)


_check: ContextVar[_Check] = ContextVar("check")


@contextmanager
def bounded(most_steps: int = MOST_STEPS) -> Iterator[None]:
    """Bound the checks within, by `BoundedValidator`, together.

    Raises:
        TooManySteps: they would take longer.
        TextTooLong: so would a pattern.
    """
    token = _check.set(_Check(most_steps))
    try:
        yield
    finally:
        _check.reset(token)


def _counted(keyword: Keyword) -> Keyword:
    def check(
        validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterable[ValidationError] | None:
        _check.get().take()
        return keyword(validator, rule, value, schema)

    return check


def _pattern(
    validator: Any, pattern: str, value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    is_text = validator.is_type(value, "string")
    if is_text and not _check.get().matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, rule: Mapping[str, Any], value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    matches = _check.get().matches
    for pattern, schema in rule.items():
        for name in value:
            if not matches(pattern, name):
                continue
            yield from validator.descend(
                value[name], schema, path=name, schema_path=pattern
            )


def _additional_properties(
    validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    matches = _check.get().matches
    more = [
        name
        for name in value
        if name not in known and not any(matches(each, name) for each in patterns)
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


def _any_of(
    validator: Any, rule: Any, value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    errors: list[ValidationError] = []
    if _first_that_fits(validator, rule, value, errors) is None:
        yield _fits_none(value, errors)


def _one_of(
    validator: Any, rule: Any, value: Any, _: Mapping[str, Any]
) -> Iterator[ValidationError]:
    errors: list[ValidationError] = []
    first = _first_that_fits(validator, rule, value, errors)
    if first is None:
        yield _fits_none(value, errors)
        return
    more = [
        index
        for index, schema in enumerate(rule)
        if index > first and validator.evolve(schema=schema).is_valid(value)
    ]
    if more:
        each = ", ".join(map(str, (first, *more)))
        yield ValidationError(f"{value!r} is valid under each of oneOf's {each}")


def _first_that_fits(
    validator: Any, rule: Any, value: Any, errors: list[ValidationError]
) -> int | None:
    """Return the place of the first schema that fits; else add what is wrong."""
    for index, schema in enumerate(rule):
        before = len(errors)
        for error in validator.descend(value, schema, schema_path=index):
            _check.get().take(_STEPS_OF_AN_ERROR)
            error.message = error.message[:_SHOWN_CHARACTERS]
            error.args = (error.message,)
            errors.append(error)
        if len(errors) == before:
            return index
    return None


def _fits_none(value: Any, errors: list[ValidationError]) -> ValidationError:
    told = f"{value!r} is not valid under any of the given schemas"
    return ValidationError(told, context=errors)


def _unevaluated(keyword: Keyword) -> Keyword:
    """The library looks for each of a value's parts in a list of those evaluated."""

    def check(
        validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterable[ValidationError] | None:
        if isinstance(value, (dict, list)):
            _check.get().take(len(value) ** 2 // 256)
        return keyword(validator, rule, value, schema)

    return check


def _evolve(self: Any, **changes: Any) -> Any:
    """Stay bounded, whatever `$schema` says."""
    _check.get().take(0)
    kept = {alias: getattr(self, name) for name, alias in _FIELDS}
    return BoundedValidator(**{**kept, **changes})


_THEIRS: Final = Draft202012Validator.VALIDATORS
_BOUNDED: Final[dict[str, Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "unevaluatedItems": _unevaluated(_THEIRS["unevaluatedItems"]),
    "unevaluatedProperties": _unevaluated(_THEIRS["unevaluatedProperties"]),
}

BoundedValidator: Final = extend(
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in {**_THEIRS, **_BOUNDED}.items()},
)
BoundedValidator.evolve = _evolve
_FIELDS: Final = [
    (field.name, field.alias)
    for field in BoundedValidator.__attrs_attrs__
    if field.init
]
