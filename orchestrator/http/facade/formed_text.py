"""The text of a stream whose client reads it as one JSON value. Pure.

Beside the answer a run says other things: what it is about to look up, or an answer
that did not fit and was asked for again. Who reads the stream as JSON wants none of it.
"""

from __future__ import annotations

from typing import Final

from orchestrator.events import TaskEvent
from orchestrator.http.facade.shown_text import AnswerChanged, ShownText

OPENERS: Final = ("{", "[")
"""How an answer begins that can be shown as it comes; others are shown at the end."""


class FormedText:
    """Shows the answer alone: as it comes where no tools are, else at the end."""

    def __init__(self, shown: ShownText, *, is_live: bool) -> None:
        self._shown = shown
        self._is_live = is_live
        self._held = ""
        self._sent = ""

    def take(self, event: TaskEvent) -> str:
        """Return what may be shown after an event.

        Raises:
            AnswerChanged: as `ShownText`, of what was sent.
        """
        if not self._is_live:
            return ""
        try:
            self._held += self._shown.take(event)
        except AnswerChanged:
            if self._sent:
                raise
            self._is_live = False  # what was held back may have changed
        if not (self._sent or self._held.lstrip().startswith(OPENERS)):
            return ""
        text, self._held = self._held, ""
        self._sent += text
        return text

    def finish(self, answer: str) -> str:
        """Return what of the answer is still to be shown.

        Raises:
            AnswerChanged: something else was shown.
        """
        if self._sent and self._sent.strip() != answer.strip():
            raise AnswerChanged
        return "" if self._sent else answer
