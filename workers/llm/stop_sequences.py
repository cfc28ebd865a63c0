"""Cuts what a model says before the first of some sequences.

Servers do it themselves; but some models refuse the field, some servers pass it over,
and who relies on it must not read on. The first is the one that is complete first: a
server that stops there cannot know how a longer one would have gone on. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopSequences:
    """Where one answer, whole or in pieces, comes to its end."""

    def __init__(self, sequences: Sequence[str] = ()) -> None:
        self._sequences = tuple(sequences)
        self._held = ""
        """What may be the beginning of a sequence."""
        self._is_met = False

    def cut(self, text: str) -> str:
        """Return a whole text up to the first sequence in it."""
        places = [(text.find(each), len(each)) for each in self._sequences]
        ends = [(place + size, place) for place, size in places if place >= 0]
        return text[: min(ends)[1]] if ends else text

    def take(self, piece: str) -> str:
        """Return what may be shown after a piece."""
        if not self._sequences or self._is_met:
            return "" if self._is_met else piece
        text = self._held + piece
        shown = self.cut(text)
        self._is_met = len(shown) < len(text)
        if not self._is_met:
            shown = text[: len(text) - self._begun_at_the_end_of(text)]
        self._held = text[len(shown) :]
        return shown

    def rest(self) -> str:
        """Return what was held back when the answer ended without a sequence."""
        held, self._held = "" if self._is_met else self._held, ""
        return held

    def _begun_at_the_end_of(self, text: str) -> int:
        return max(
            (
                size
                for each in self._sequences
                for size in range(1, len(each))
                if text.endswith(each[:size])
            ),
            default=0,
        )
