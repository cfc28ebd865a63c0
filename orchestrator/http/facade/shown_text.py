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
    """The text of one stream; items of `given_up` are known to have been replaced.

    Of messages that are under way together, the first is shown and the others wait.
    """

    def __init__(self, given_up: Collection[str] = ()) -> None:
        self._given_up = frozenset(given_up)
        self._heard: dict[str, str] = {}
        """Of each message that is not shown whole, in the order of their beginnings."""
        self._ended: set[str] = set()
        self._sent = ""
        """Of the first of them."""
        self._is_cut = False
        self._between = ""

    def take(self, event: TaskEvent) -> str:
        """Return what may be shown after an event.

        Raises:
            AnswerChanged: nothing of the message that now ended can be shown.
        """
        item = _item_of(event)
        if item.get("id") in self._given_up:
            return ""
        # A message that is begun anew has its name with a number behind a point.
        name = str(item.get("id", "")).partition(".")[0]
        match event.type:
            case EventType.ITEM_ADDED:
                self._begin(name, is_message=item.get("type") == "message")
            case EventType.TEXT_DELTA:
                text = self._heard.get(name, "")
                self._heard[name] = text + str(event.data.get("delta", ""))
            case EventType.ITEM_DONE if item.get("type") == "message":
                self._end(name, item)
            case _:
                return ""
        return self._release()

    def finish(self, answer: str = "") -> str:  # noqa: ARG002 - it is shown as it came
        """Check that what was shown is a part of the answer, of which nothing is left.

        Raises:
            AnswerChanged: the last message was given up and no other came.
        """
        if self._sent:
            raise AnswerChanged
        return ""

    @property
    def _first(self) -> str:
        return next(iter(self._heard), "")

    def _begin(self, name: str, *, is_message: bool) -> None:
        if self._is_cut and name != self._first:
            self._leave(self._first)
        self._is_cut = False
        if is_message:
            self._heard[name] = ""

    def _end(self, name: str, item: dict[str, Any]) -> None:
        if item.get("status") != INCOMPLETE:
            self._heard[name] = str(item.get("text", ""))
            self._ended.add(name)
        elif self._sent and name == self._first:
            self._heard[name] = ""
            self._is_cut = True
        else:
            self._heard.pop(name, None)

    def _release(self) -> str:
        """Return what can be shown now, up to the first message that goes on."""
        shown = ""
        while first := self._first:
            rest = self._rest()
            if first not in self._ended:
                return shown + (rest or "")
            if rest is None:
                raise AnswerChanged
            shown += rest
            self._leave(first)
        return shown

    def _rest(self) -> str | None:
        """Return what is heard beyond what was sent; None when it does not go on so."""
        heard = self._heard[self._first]
        if not heard.startswith(self._sent):
            return None
        rest = heard[len(self._sent) :]
        if rest and not self._sent:
            rest, self._between = self._between + rest, ""
        self._sent = heard
        return rest

    def _leave(self, first: str) -> None:
        if self._sent:
            self._between = BETWEEN
        self._sent = ""
        self._heard.pop(first)
        self._ended.discard(first)


def given_up(events: Collection[TaskEvent]) -> set[str]:
    """Return the items that another has replaced."""
    ended = [_item_of(e) for e in events if e.type is EventType.ITEM_DONE]
    return {str(item["id"]) for item in ended if item.get("status") == INCOMPLETE}


def _item_of(event: TaskEvent) -> dict[str, Any]:
    item = event.data.get("item")
    return item if isinstance(item, dict) else {"id": event.data.get("item_id")}
