"""Keeps what goes wrong again and again from filling a log."""

from __future__ import annotations

from time import monotonic
from typing import Final

TELL_AGAIN_SECONDS: Final = 10.0
"""So often a person who looks at the log sees that it still goes on."""


class Seldom:
    """Whether to tell something: at once where it is new, else once in a while."""

    def __init__(self, *, again_seconds: float = TELL_AGAIN_SECONDS) -> None:
        self._again_seconds = again_seconds
        self._told: dict[str, float] = {}

    def __call__(self, text: str) -> bool:
        """Whether to tell `text` now; it then counts as told."""
        now = monotonic()
        self._told = {
            told: at
            for told, at in self._told.items()
            if now - at < self._again_seconds
        }
        if text in self._told:
            return False
        self._told[text] = now
        return True
