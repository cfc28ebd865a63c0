"""What is kept of an endpoint's answer: its body without secrets, or nothing at all.

Secrets are looked for in what a reader of the answer sees: the values of its JSON, and
the texts that the deltas of a stream make together. What cannot be read so is kept
only when no part of a secret stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from workers.llm.completion_parser import CompletionAccumulator
from workers.llm.event_stream import DONE, NOT_JSON, EventStream
from workers.llm.secret_text import Secrets

_Path = tuple[str, ...]
_NAME = "(name)"
_PART = "(part)"
_TOO_DEEP = "holds what may be a key, which cannot be taken out of it"


class MayHoldSecret(Exception):
    """It cannot be shown that an answer holds no secret; says why."""


def kept_body(raw: bytes, secrets: Secrets) -> str:
    """Return an answer's body without secrets; as it came when it has none.

    Raises:
        MayHoldSecret: nothing of it is to be kept.
    """
    text = _text(raw)
    try:
        values = _values(text)
    except (ValueError, RecursionError):
        return _opaque(text, secrets)
    if _is_clean(values, text, secrets):
        return text
    clean = {
        path: iter(secrets.without_in_pieces(pieces))
        for path, pieces in _by_path(values).items()
    }
    kept = [_replaced(value, clean, ()) for value in values]
    left = _written(kept, is_stream=not _is_document(text))
    if not _is_clean(kept, left, secrets):
        raise MayHoldSecret(_TOO_DEEP)
    return left


def kept_text(text: str, secrets: Secrets) -> str:
    """Return a text, such as a header's, without secrets.

    Raises:
        MayHoldSecret: it is not to be kept.
    """
    left = secrets.without(text)
    if secrets.may_stand_in(left):
        raise MayHoldSecret(_TOO_DEEP)
    return left


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MayHoldSecret("is no UTF-8, in which a key could be found") from None
    if "\0" in text:
        raise MayHoldSecret("is no UTF-8 text, in which a key could be found")
    return text


def _is_document(text: str) -> bool:
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "["))


def _values(text: str) -> list[object]:
    """Return the JSON of a document, or that of a stream's events.

    Raises:
        ValueError, RecursionError: it is neither.
    """
    if _is_document(text):
        return [_read(text.lstrip("\ufeff"))]
    events = EventStream(_read)
    values = [*events.feed(text.encode()), *events.end()]
    if not values or events.was_cut or NOT_JSON in values:
        raise ValueError("no stream")
    return values


def _read(text: str | bytes) -> object:
    """Return the value; one that names a key twice has no single meaning."""
    return json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key that is named twice hides a value")
    return value


def _opaque(text: str, secrets: Secrets) -> str:
    left = kept_text(text, secrets)
    if secrets.have_left_parts_in(left):
        raise MayHoldSecret("is no JSON and holds what may be a part of a key")
    return left


def _strings(value: object, path: _Path = ()) -> Iterator[tuple[_Path, str]]:
    """Yield each text of a value with the place at which later events go on."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield (*path, name, _NAME), name
            yield from _strings(each, (*path, name))
    elif isinstance(value, list):
        for position, each in enumerate(value):
            yield from _strings(each, (*path, _place(position, each)))


def _place(position: int, entry: object) -> str:
    """Name an entry: a tool call stands alone in each event's list, with its index.

    The parts of a list of content are pieces of one text.
    """
    if not isinstance(entry, dict):
        return str(position)
    if (index := entry.get("index")) is not None:
        return str(index)
    return _PART if isinstance(entry.get("text"), str) else str(position)


def _by_path(values: list[object]) -> dict[_Path, list[str]]:
    pieces: dict[_Path, list[str]] = {}
    for value in values:
        for path, text in _strings(value):
            pieces.setdefault(path, []).append(text)
    return pieces


def _is_clean(values: list[object], text: str, secrets: Secrets) -> bool:
    """Whether neither the text as it stands nor what its pieces make holds one."""
    joined = ("".join(pieces) for pieces in _by_path(values).values())
    read = _read_by_client(values)
    return not any(secrets.may_stand_in(each) for each in (text, *joined, *read))


def _read_by_client(values: list[object]) -> Iterator[str]:
    """Yield the answer and the reasoning that the values make, wherever they stand."""
    parser = CompletionAccumulator()
    for value in values:
        if isinstance(value, dict):
            parser.feed(value)
    if (read := parser.added()) is not None:
        yield read.text
        yield read.reasoning


def _replaced(value: object, clean: Mapping[_Path, Iterator[str]], path: _Path) -> Any:
    """Return the value with its texts in the order of `_strings`."""
    if isinstance(value, str):
        return next(clean[path])
    if isinstance(value, dict):
        return {
            next(clean[*path, name, _NAME]): _replaced(each, clean, (*path, name))
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [
            _replaced(each, clean, (*path, _place(position, each)))
            for position, each in enumerate(value)
        ]
    return value


def _written(values: list[object], *, is_stream: bool) -> str:
    if not is_stream:
        return json.dumps(values[0], ensure_ascii=False)
    lines = (
        "[DONE]" if value is DONE else json.dumps(value, ensure_ascii=False)
        for value in values
    )
    return "".join(f"data: {line}\n\n" for line in lines)
