"""How messages name the place of a value among keys that a caller has chosen."""

from __future__ import annotations

from typing import Final

LONGEST_PATH: Final = 200
"""Of what is shown; keys of our own are far shorter."""


def shown_path(path: str) -> str:
    """Return a path on one line, cut, control characters written out."""
    cut = path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}…"
    if cut.isprintable():
        return cut
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in cut)
