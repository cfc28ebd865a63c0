"""What a stream of chat chunks has shown of a run's messages. Pure.

A chunk cannot be taken back. A message that is begun anew, because a crash or a broken
line has cut the model off, is shown from where its first beginning ended; nothing of it
is shown while the model says something else, which is decided when it has ended.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from orchestrator.events import EventType, TaskEvent

BETWEEN: Final = "\n\n"
"""Stands between two messages of a run."""
INCOMPLETE: Final = "incomplete"


class AnswerChanged(Exception):
    """A message ended that does not begin as what was shown of it."""


class ShownText:
    """The text of one stream; items of `given_up` are known to have been replaced."""

    def __init__(self, given_up: Collection[str] = ()) -> None:
        self._given_up = frozenset(given_up)
        self._message = ""
        self._sent = ""
        self._heard = ""
        self._between = ""

    def take(self, event: TaskEvent) -> str:
        """Return what may be shown after an event.

        Raises:
            AnswerChanged: nothing of the message that now ended can be shown.
        """
        item = _item_of(event)
        if item.get("id") in self._given_up:
            return ""
        match event.type:
            case EventType.ITEM_ADDED:
                self._begin(item)
            case EventType.TEXT_DELTA:
                self._heard += str(event.data.get("delta", ""))
                return self._rest() or ""
            case EventType.ITEM_DONE if item.get("type") == "message":
                return self._end(item)
            case _:
                pass
        return ""

    def finish(self) -> None:
        """Check that what was shown is a part of the answer.

        Raises:
            AnswerChanged: the last message was given up and no other came.
        """
        if self._sent:
            raise AnswerChanged

    def _begin(self, item: dict[str, Any]) -> None:
        # A message that is begun anew has its name with a number behind a point.
        message = str(item.get("id", "")).partition(".")[0]
        if message != self._message:
            self._leave()
            self._message = message
        self._heard = ""

    def _end(self, item: dict[str, Any]) -> str:
        if item.get("status") == INCOMPLETE:
            self._heard = ""
            return ""
        self._heard = str(item.get("text", ""))
        rest = self._rest()
        if rest is None:
            raise AnswerChanged
        self._leave()
        return rest

    def _rest(self) -> str | None:
        """Return what is heard beyond what was sent; None when it does not go on so."""
        if not self._heard.startswith(self._sent):
            return None
        rest = self._heard[len(self._sent) :]
        if rest and not self._sent:
            rest, self._between = self._between + rest, ""
        self._sent = self._heard
        return rest

    def _leave(self) -> None:
        if self._sent:
            self._between = BETWEEN
        self._sent = ""


def given_up(events: Collection[TaskEvent]) -> set[str]:
    """Return the items that another has replaced."""
    ended = [_item_of(e) for e in events if e.type is EventType.ITEM_DONE]
    return {str(item["id"]) for item in ended if item.get("status") == INCOMPLETE}


def _item_of(event: TaskEvent) -> dict[str, Any]:
    item = event.data.get("item")
    return item if isinstance(item, dict) else {"id": event.data.get("item_id")}
