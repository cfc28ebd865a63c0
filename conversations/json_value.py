"""What may be stored: text that is valid Unicode, values that are plain JSON.

Owns the checks that every record passes before any I/O. Knows no room's models and
no limits of its own; limits come from the caller.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import AfterValidator, BaseModel, JsonValue, Strict
from pydantic_core import from_json, to_json

from conversations.json_copies import JSON_KINDS, CopiedOnce, copiers
from conversations.shown_path import shown_path

J = TypeVar("J", bound=JsonValue)

MAX_INTEGER_BITS = 1023
"""Larger integers are infinite to readers that know only doubles, or an error."""

BYTES_OF_A_CHARACTER = 6
"""At most, of one that JSON escapes."""

MAX_DEPTH = 64
"""Nesting levels accepted; deeper values break recursive readers of the record."""


class NotStorable(ValueError):
    """A value cannot be stored; says where it stands, why, and what would do."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path = shown_path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}" if path else reason)


def check_text(text: str, *, path: str = "") -> str:
    """Return `text` when it can be written as UTF-8.

    Raises:
        NotStorable: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise NotStorable(
            path,
            f"not valid Unicode at index {exc.start} (a lone surrogate);"
            " send text that can be written as UTF-8",
        ) from None
    return text


def check_json(value: object, *, path: str = "") -> JsonValue:
    """Return `value` when it is plain JSON.

    Plain JSON is null, booleans, finite numbers, valid Unicode text, lists and
    string-keyed objects, at most `MAX_DEPTH` deep.

    Raises:
        NotStorable: names the path of the first offending value and its type.
    """
    _walk(value, path, 0)
    return cast("JsonValue", value)


def _walk(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise NotStorable(path, f"nested deeper than {MAX_DEPTH} levels; flatten it")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_key(key, path)
            _walk(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]", depth + 1)
    else:
        _check_scalar(value, path)


def _check_key(key: object, path: str) -> None:
    if not isinstance(key, str):
        raise NotStorable(
            path, f"not JSON (a key of type {type(key).__name__}); use text"
        )
    check_text(key, path=path)


def _check_scalar(value: object, path: str) -> None:
    if isinstance(value, str):
        check_text(value, path=path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise NotStorable(path, "not JSON (NaN or Infinity); send a finite number")
    elif isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise NotStorable(
            path,
            f"an integer of {value.bit_length()} bits; JSON readers take at most"
            f" {MAX_INTEGER_BITS} bits (308 digits), send it as text",
        )
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise NotStorable(
            path,
            f"not JSON (type {type(value).__name__});"
            " send text, numbers, booleans, lists or objects",
        )


def dumps(value: object) -> str:
    """Compact JSON text, the one form in which records are written.

    For values that were checked where they came from; a number that JSON does not know
    would become null.
    """
    return to_json(value, inf_nan_mode="null").decode()


def loads(text: str | bytes) -> Any:
    """The value of JSON text, read fast; what Python's own reader takes is taken.

    Raises:
        ValueError, RecursionError: it is none.
    """
    try:
        return from_json(text, cache_strings="keys")
    except (ValueError, TypeError):
        # Halves of a surrogate, byte order marks, other encodings, great depth.
        return json.loads(text)


def plain_json(value: object, *, path: str = "") -> JsonValue:
    """Return what a reader of the stored value gets, in which tuples are lists.

    Raises:
        NotStorable: as `check_json`.
    """
    return cast("JsonValue", loads(dumps(check_json(value, path=path))))


def written(
    value: BaseModel, *, exclude: set[str] | None = None, without_defaults: bool = False
) -> str:
    """JSON text of a model's value: what `model_dump_json` gives at twice the cost."""
    serializer = value.__pydantic_serializer__
    data = serializer.to_json(value, exclude=exclude, exclude_defaults=without_defaults)
    return data.decode()


_NESTED: Final = (dict, list, tuple)


def copied(value: J) -> J:
    """A copy of plain JSON, with lists for tuples, that shares nothing changeable."""
    if isinstance(value, dict):
        return cast(
            "J",
            {
                name: copied(item) if isinstance(item, _NESTED) else item
                for name, item in value.items()
            },
        )
    if isinstance(value, (list, tuple)):
        return cast("J", [copied(item) for item in value])
    return value


_COPIERS: Final = copiers(MAX_DEPTH)


def checked_copy(value: object, *, path: str = "") -> JsonValue:
    """A copy of a value that is plain JSON, as `copied` makes it.

    Raises:
        NotStorable: as `check_json`.
    """
    try:
        return cast("JsonValue", _COPIERS[type(value)](value, 0))
    except (KeyError, ValueError, RecursionError):
        return copied(check_json(value, path=path))


def size_of(value: object) -> int:
    """Bytes of `value` as stored JSON."""
    return len(to_json(value))


def check_no_nul(value: object, *, path: str = "") -> None:
    """Check that no text or name in a value holds a NUL, at which some readers end.

    Raises:
        NotStorable: names the path of the first one.
    """
    if isinstance(value, str) and "\0" in value:
        raise NotStorable(
            path,
            f"holds a NUL character at index {value.index(chr(0))};"
            " take it out and send it again",
        )
    if isinstance(value, dict):
        for name, item in value.items():
            check_no_nul(name, path=f"a name in {path}")
            check_no_nul(item, path=f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_no_nul(item, path=f"{path}[{index}]")


def _check_name(text: str) -> str:
    check_no_nul(text)
    return check_text(text)


Text = Annotated[str, Strict(), AfterValidator(check_text)]
"""Text that can be stored."""

Name = Annotated[str, Strict(), AfterValidator(_check_name)]
"""Text that names something: without a NUL."""

JsonObject = Annotated[
    dict[str, JsonValue], CopiedOnce(check_json, dict, max_depth=MAX_DEPTH)
]
"""A string-keyed object of plain JSON."""

Json = Annotated[JsonValue, CopiedOnce(check_json, *JSON_KINDS, max_depth=MAX_DEPTH)]
"""Any plain JSON value."""

_IDENTIFIER = re.compile("[A-Za-z0-9-][A-Za-z0-9_-]{0,63}")


def check_identifier(value: str) -> str:
    """Return `value` when it may name a stored thing.

    Raises:
        NotStorable: it is empty, too long, or holds another character.
    """
    if not isinstance(value, str):
        raise NotStorable("", f"must be text (got {type(value).__name__})")
    if _IDENTIFIER.fullmatch(value) is None:
        raise NotStorable(
            "",
            "must be 1 to 64 letters of ASCII, digits, '_' or '-', not starting with"
            f" '_' (got {len(value)} characters)",
        )
    return value


Identifier = Annotated[str, Strict(), AfterValidator(check_identifier)]
"""An id that may stand in a Redis key: letters, digits, `_` and `-`, 1 to 64."""
