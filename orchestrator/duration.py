"""Durations as people write them: `300`, `300s`, `5m`, `1h30m`, `500ms`, `7d`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_WRITTEN = re.compile(
    rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?"
    rf"(?:({_NUMBER})s)?(?:({_NUMBER})ms)?"
)
_UNIT_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_LONGEST_SECONDS = 3_650 * 86_400.0
"""Ten years: anything longer is a slip, and timers and key expiry overflow on it."""


def parse_seconds(value: object) -> float:
    """Return `value` in seconds.

    Raises:
        ValueError: it is no duration, or not within (0, 3650d].
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(
            f"not a duration ({_shown(value)});"
            " write seconds such as 300, or '300s', '5m', '1h30m', '500ms', '7d'"
        )
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise ValueError(
            f"out of range ({_shown(value)});"
            " a duration must be greater than 0 and at most 3650d"
        )
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _read(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return math.inf
    return None if math.isnan(seconds) else seconds


def _read(text: str) -> float | None:
    if re.fullmatch(rf"-?{_NUMBER}", text):
        return float(text)
    sign, amount = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    match = _WRITTEN.fullmatch(amount)
    if not amount or match is None:
        return None
    parts = zip(match.groups(), _UNIT_SECONDS, strict=True)
    return sign * sum(float(part) * unit for part, unit in parts if part)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e18:
        return str(value)
    return f"type {type(value).__name__}"


def format_seconds(seconds: float) -> str:
    """Write a duration the way `parse_seconds` reads it."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds < 60:
        return f"{seconds:g}s"
    rest, parts = round(seconds), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\s*[0-9]"},
            ],
            "description": "Seconds, or text such as 300s, 5m, 1h30m, 500ms, 7d.",
        }
    ),
]
"""A duration in seconds; reads numbers and text such as `5m`."""
