"""Numbers that somebody sends as text, such as cursors: read, never an error."""

from __future__ import annotations

from typing import Final

MOST_DIGITS: Final = 18
"""No number of ours is longer; Python refuses to read thousands of digits."""


def whole_number(text: str) -> int | None:
    """Return the number that a text writes in digits; None when it writes none."""
    is_one = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if is_one else None
