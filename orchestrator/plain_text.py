"""Text that anybody may have written, as a terminal may be shown it.

Imports nothing, so that an error is told without waiting for more.
"""

from __future__ import annotations


def plain(text: str, *, limit: int | None = None) -> str:
    """Return `text` with control characters shown, cut to `limit` characters."""
    shown = "".join(
        char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}"
        for char in text
    )
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def one_line(text: str, *, limit: int = 72) -> str:
    """Return `text` on one line, cut to `limit` characters."""
    return plain(" ".join(text.split()), limit=limit)


def told(text: object) -> str:
    """Return what is told on a line of its own, whoever has written parts of it."""
    return plain(" ".join(str(text).split()))
