"""Which stored messages a prompt shows, for those who ask why a model said so."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import JsonValue

from conversations.message import Message
from conversations.view import NO_CONVERSATION, ConversationView


class ShownHistory:
    """The messages of a run's window, known again in its prompts.

    They are the same objects there: nobody on the way copies a message that stays as it
    is. One that an agent has made anew, or that was shortened, is none of them.
    """

    def __init__(self, view: ConversationView = NO_CONVERSATION) -> None:
        self._view = view

    def ranges_in(self, prompt: Iterable[Message]) -> list[JsonValue]:
        """Return the numbers of the stored messages in a prompt, as first and last."""
        window, seqs = self._view.window.messages, self._view.seqs
        numbers = dict(zip(map(id, window), seqs, strict=False))
        placed = map(numbers.get, map(id, prompt))
        found = sorted(filter(None, placed))  # they are counted from 1
        if found and found[-1] - found[0] == len(found) - 1:
            return [[found[0], found[-1]]]  # as most prompts show it, without a gap
        ranges: list[JsonValue] = []
        first = last = None
        for seq in found:
            if last is not None and seq == last + 1:
                last = seq
                continue
            if last is not None:
                ranges.append([first, last])
            first = last = seq
        if last is not None:
            ranges.append([first, last])
        return ranges
