"""How pydantic takes plain JSON from Python: looked through and copied once.

Its own `JsonValue` calls a function for each value, after ours has looked at it. What
is not of JSON's own types is left to both, which know what to say of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

Copy = Callable[[Any, int], Any]


class CopiedOnce:
    """Annotates a type of plain JSON that a function checks before pydantic does."""

    def __init__(
        self, check: Callable[[Any], Any], *kinds: type, max_depth: int
    ) -> None:
        """Take what checks a value; those of other `kinds` are none of the type."""
        self._check = check
        self._kinds = frozenset(kinds)
        self._copiers = copiers(max_depth)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        slow = core_schema.no_info_before_validator_function(
            self._check, handler(source)
        )
        return core_schema.json_or_python_schema(
            slow, core_schema.no_info_wrap_validator_function(self._copied, slow)
        )

    def _copied(self, value: Any, slow: ValidatorFunctionWrapHandler) -> Any:
        kind = type(value)
        if kind in self._kinds:
            try:
                return self._copiers[kind](value, 0)
            except (KeyError, ValueError, RecursionError):
                pass  # whoever looks slowly says why
        return slow(value)


def copiers(max_depth: int) -> Mapping[type, Copy]:
    """What copies a value that stands so deep, by its type."""

    def of_object(value: dict[Any, Any], depth: int) -> dict[str, Any]:
        if depth >= max_depth:
            raise ValueError
        inner = depth + 1
        return {
            _name(name): by_type[type(item)](item, inner)
            for name, item in value.items()
        }

    def of_list(value: list[Any], depth: int) -> list[Any]:
        if depth >= max_depth:
            raise ValueError
        inner = depth + 1
        return [by_type[type(item)](item, inner) for item in value]

    by_type: Mapping[type, Copy] = {
        str: _text,
        int: _integer,
        float: _number,
        bool: _same,
        NoneType: _same,
        dict: of_object,
        list: of_list,
    }
    return by_type


JSON_KINDS: Final = (str, int, float, bool, NoneType, dict, list)
_SURE: Final = 1 << 62
"""Integers up to here need no closer look."""


def _same(value: Any, _: int) -> Any:
    return value


def _text(text: str, _: int) -> str:
    if not text.isascii():
        text.encode()  # a lone surrogate is a ValueError
    return text


def _name(name: Any) -> str:
    if type(name) is not str:
        raise ValueError
    return _text(name, 0)


def _integer(value: int, _: int) -> int:
    if not -_SURE < value < _SURE:
        raise ValueError
    return value


def _number(value: float, _: int) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value
