"""How long an endpoint's headers ask to wait; pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_ALLOWANCES = tuple(
    (f"x-ratelimit-remaining-{name}", f"x-ratelimit-reset-{name}")
    for name in ("requests", "tokens")
)
"""Headers that tell what is left, and when it is given anew."""
_REFUSALS = (
    ("retry-after-ms", 0.001),
    ("x-ms-retry-after-ms", 0.001),
    ("retry-after", 1.0),
    ("x-retry-after", 1.0),
    ("ratelimit-reset", 1.0),
)
"""Headers of a refusal that give the wait itself, and their unit in seconds."""
_RESETS = (
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-reset",
    "x-ratelimit-reset",
)
"""Headers that may give an instant instead."""
_EPOCH_AFTER = 10**9
"""A larger number of seconds is an instant."""


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the wait that a refusal asks for; None when it does not say."""
    for name, scale in _REFUSALS:
        value = headers.get(name, "").strip()
        if not value:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _duration(value) or _seconds_until(value)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return used_up_seconds(headers) or _longest_reset(headers) or _instant(headers)


def wait_in_words(number: str, unit: str) -> float | None:
    """Return a wait from the words of a message: `1.5s`, `6m0s`, `20 seconds`."""
    seconds = _duration(number)
    return seconds * 60 if seconds and unit.strip().startswith("min") else seconds


def _instant(headers: Mapping[str, str]) -> float | None:
    waits = [_wait_until(headers.get(name, "").strip()) for name in _RESETS]
    return max((wait for wait in waits if wait is not None), default=None)


def _wait_until(text: str) -> float | None:
    """Read an instant (RFC 3339, seconds or milliseconds since 1970) or a duration."""
    number = _duration(text)
    if number is not None and number < _EPOCH_AFTER:
        return number
    if number is not None:
        number = number / 1000 if number > _EPOCH_AFTER * 1000 else number
        return max(0.0, number - datetime.now(UTC).timestamp())
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def used_up_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the wait until what `x-ratelimit-*` says is used up comes back."""
    waits = [
        _wait_until(headers.get(reset, "").strip())
        for left, reset in _ALLOWANCES
        if headers.get(left, "").strip() == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _longest_reset(headers: Mapping[str, str]) -> float | None:
    waits = [_wait_until(headers.get(reset, "").strip()) for _, reset in _ALLOWANCES]
    return max((wait for wait in waits if wait is not None), default=None)


def _duration(text: str) -> float | None:
    """Read Go's durations, `6m0s`, or a number of seconds."""
    parts = _PART.findall(text.strip())
    if parts and "".join(n + u for n, u in parts) == text.strip():
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(http_date: str) -> float:
    try:
        at = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return math.nan
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return (at - datetime.now(UTC)).total_seconds()
