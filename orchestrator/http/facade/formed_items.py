"""The messages of a response whose client reads its answer as one JSON value. Pure.

Such a client parses the text of each message, unless its `phase` says that it is no
answer. What does not begin as JSON is held back until it is known what it is: something
said meanwhile when another item begins, an answer in a code fence when the run ends.
"""

from __future__ import annotations

from typing import Any, Final

from orchestrator.events import EventType, TaskEvent
from orchestrator.http.facade.formed_text import OPENERS
from orchestrator.http.facade.shapes import COMMENTARY
from orchestrator.http.facade.shown_text import INCOMPLETE
from orchestrator.output_schema import json_of

_WHOLE: Final = (EventType.TEXT_DONE, EventType.PART_DONE)


class FormedItems:
    """Passes the events of one stream on, in their order."""

    def __init__(self) -> None:
        self._held: list[TaskEvent] = []
        """Of a message and of what came behind it; the first begins the message."""
        self._name: object = None
        self._begins_otherwise = False

    def take(self, event: TaskEvent) -> list[TaskEvent]:
        """Return what may be sent after an event."""
        if event.type.is_end or event.type is EventType.ITEM_ADDED:
            known = self._known_by(event)
            self._held, self._begins_otherwise = [], False
            if _item_of(event).get("type") != "message":
                return [*known, event]
            self._held, self._name = [event], _name_of(event)
            return known
        if not self._held:
            return [event]
        self._held.append(event)
        if _name_of(event) != self._name or not self._is_to_be_shown(event):
            return []
        shown, self._held = self._held, []
        return shown

    def _known_by(self, event: TaskEvent) -> list[TaskEvent]:
        """Return what was held back as what another item or the end shows it to be."""
        if event.type is EventType.ITEM_ADDED:
            return [_as_commentary(each) for each in self._held]
        return (
            self._as_answer() if event.type is EventType.TASK_COMPLETED else self._held
        )

    def _is_to_be_shown(self, event: TaskEvent) -> bool:
        """Whether the message begins as JSON, or another takes its place."""
        if event.type is EventType.ITEM_DONE:
            return _item_of(event).get("status") == INCOMPLETE
        begun = str(event.data.get("delta", "")).lstrip()
        if self._begins_otherwise or not begun:
            return False
        self._begins_otherwise = not begun.startswith(OPENERS)
        return not self._begins_otherwise

    def _as_answer(self) -> list[TaskEvent]:
        """Return what is held with the answer's text as the response has it."""
        ended = [e for e in self._held if e.type is EventType.ITEM_DONE]
        text = str(_item_of(ended[0]).get("text", "")) if ended else ""
        if (plain := json_of(text)) == text:
            return self._held
        found: list[TaskEvent] = []
        is_said = False
        for event in self._held:
            if event.type is EventType.TEXT_DELTA:
                if not is_said:
                    found.append(_with(event, delta=plain))
                is_said = True
            elif event.type in _WHOLE:
                found.append(_with(event, text=plain))
            elif event.type is EventType.ITEM_DONE:
                found.append(_with(event, item={**_item_of(event), "text": plain}))
            else:
                found.append(event)
        return found


def _as_commentary(event: TaskEvent) -> TaskEvent:
    item = _item_of(event)
    if item.get("type") != "message":
        return event
    return _with(event, item={**item, "phase": COMMENTARY})


def _with(event: TaskEvent, **facts: Any) -> TaskEvent:
    return event.model_copy(update={"data": {**event.data, **facts}})


def _item_of(event: TaskEvent) -> dict[str, Any]:
    item = event.data.get("item")
    return item if isinstance(item, dict) else {}


def _name_of(event: TaskEvent) -> object:
    return _item_of(event).get("id", event.data.get("item_id"))
