"""Which known names are nearest to a mistyped one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_names(
    name: str, known: Iterable[str], *, least_alike: float = 0.5
) -> list[str]:
    """Return up to three known names that look like `name`, nearest first."""
    return get_close_matches(name, sorted(known), n=3, cutoff=least_alike)
