"""Turns validation errors into lines: path, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.names import nearest_names

_FOR_A_FILE = {
    "tuple_type": "{}; write a list, such as [a, b]",
    "list_type": "{}; write a list, such as [a, b]",
    "string_type": "{}; quote it where it should be text",
}
"""What pydantic's words leave out for those who write YAML."""


class SeveralProblems(ValueError):
    """What one check of several settings found, a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Return the remedy for a misspelt key: its nearest name, or all names."""
    names = sorted(known)
    nearest = nearest_names(key, names) or nearest_names(key.lower(), names)
    if nearest:
        return f"; did you mean {nearest[0]}?"
    return f"; known are {', '.join(names)}"


def describe(settings: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """Yield one line per problem; no line shows a value that may be secret."""
    for detail in error.errors(include_url=False):
        found = detail.get("ctx", {}).get("error")
        if isinstance(found, SeveralProblems):
            yield from found.problems
            continue
        loc = [str(part) for part in detail["loc"]]
        path = ".".join(loc)
        sentence = _sentence(settings, loc, detail)
        yield f"{path}: {sentence}" if path else sentence


def _sentence(settings: type[BaseModel], loc: list[str], detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        parent = _type_at(settings, loc[:-1])
        known = parent.model_fields if _is_model(parent) else {}
        return f"unknown key{did_you_mean(loc[-1], known)}"
    if detail["type"] in ("model_type", "dict_type"):
        return (
            f"must be a mapping, not {type(detail['input']).__name__}; indent its keys"
        )
    reason = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion ")
    if reason.startswith("Input should "):
        shown = _shown(_type_at(settings, loc), detail["input"])
        reason = reason.replace("valid tuple", "list")
        reason = f"{reason.replace('Input should', 'must', 1)}, got {shown}"
    return _FOR_A_FILE.get(detail["type"], "{}").format(reason)


def _shown(kind: object, value: object) -> str:
    """Show a short plain value; of anything else only the type."""
    plain = value is None or isinstance(value, (bool, int, float, str))
    text = repr(value)
    if plain and not _is_secret(kind) and len(text) <= 40 and "://" not in text:
        return text
    return f"a value of type {type(value).__name__}"


def _is_secret(kind: object) -> bool:
    return kind is SecretStr or any(_is_secret(part) for part in get_args(kind))


def _type_at(settings: type[BaseModel], loc: list[str]) -> Any:
    """Find what the settings expect at a path; None when nothing is known."""
    kind: Any = settings
    for part in loc:
        if _is_model(kind):
            field = kind.model_fields.get(part)
            kind = field.annotation if field else None
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return kind
    return kind


def _is_model(kind: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
