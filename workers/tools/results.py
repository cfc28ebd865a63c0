"""What a tool's function may give: text, or what pydantic can say in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from pydantic import JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from conversations.json_value import NotStorable, plain_json
from conversations.mending import mended, mended_json
from workers.errors import ToolFailed


def json_of(result: object, *, tool: str) -> JsonValue:
    """Return what a tool gave as plain JSON.

    Pydantic's models, dataclasses, dates, enums, decimals, UUIDs, paths and sets become
    what they are in a JSON text of pydantic's. A call that has had its effect does not
    fail for a character: NULs and lone surrogates are replaced.

    Raises:
        ToolFailed: no JSON can say it.
    """
    if type(result) is str:
        return mended(result)
    try:
        return _plain(result)
    except NotStorable as exc:
        refused = ToolFailed(f"{tool} failed: {exc}")
        if isinstance(result, Iterator):  # it may have no end
            raise refused from exc
    try:
        return _plain(to_jsonable_python(result))
    except NotStorable as exc:
        raise ToolFailed(f"{tool} failed: {exc}") from exc
    except (PydanticSerializationError, ValueError, RecursionError) as exc:
        raise refused from exc


def _plain(value: object) -> JsonValue:
    return plain_json(mended_json(cast("JsonValue", value)), path="result")
