"""What a tool's function may give: text, or what pydantic can say in JSON."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import cast

from pydantic import BaseModel, JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from conversations.json_value import NotStorable, plain_json
from conversations.mending import mended, mended_json
from workers.errors import ToolFailed


def json_of(result: object, *, tool: str) -> JsonValue:
    """Return what a tool gave as plain JSON.

    Pydantic's models, dataclasses, dates, enums, decimals, UUIDs, paths and sets become
    what they are in a JSON text of pydantic's. A call that has had its effect does not
    fail for a character: NULs and lone surrogates are replaced. What is read only once,
    as a generator, is left alone: it may have no end.

    Raises:
        ToolFailed: no JSON can say it.
        Exception: what code of the result itself raises, a computed field's, say.
    """
    if type(result) is str:
        return mended(result)
    try:
        return _plain(result)
    except NotStorable as exc:
        refused = ToolFailed(f"{tool} failed: {exc}")
    try:
        if not _holds_iterator(result):
            return _plain(to_jsonable_python(result))
    except NotStorable as exc:
        raise ToolFailed(f"{tool} failed: {exc}") from exc
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        raise refused from exc
    raise refused


def _holds_iterator(value: object) -> bool:
    parts: Iterable[object]
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        parts = value
    elif isinstance(value, BaseModel):
        parts = [*vars(value).values(), value.model_extra]
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name, None) for field in fields(value)]
    else:
        return isinstance(value, Iterator)
    return any(map(_holds_iterator, parts))


def _plain(value: object) -> JsonValue:
    return plain_json(mended_json(cast("JsonValue", value)), path="result")
