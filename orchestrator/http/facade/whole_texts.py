"""Streams whose token deltas have gone: each finished text comes as one delta instead.

A client that only adds deltas up reads the same text for as long as the task is kept.
Pure, but for the stream that it goes through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from orchestrator.events import EventType, TaskEvent

_DELTA: Final = {
    EventType.TEXT_DONE: (EventType.TEXT_DELTA, "text"),
    EventType.ITEM_DONE: (EventType.TEXT_DELTA, "text"),
    EventType.ARGUMENTS_DONE: (EventType.ARGUMENTS_DELTA, "arguments"),
}
"""What an event that holds a whole text tells of, and the field that holds it."""


async def with_whole_texts(
    events: AsyncIterator[TaskEvent | None],
) -> AsyncIterator[TaskEvent | None]:
    """Yield the events, and what is missing of each text before the event that ends it.

    An item that began before the first event is left alone: nobody knows how much of
    its text the reader has.
    """
    texts = _Texts()
    async for event in events:
        if event is not None and (missing := texts.take(event)) is not None:
            yield missing
        yield event


class _Texts:
    """How much of each open item's text has been sent."""

    def __init__(self) -> None:
        self._sent: dict[str, int] = {}
        self._last = -1

    def take(self, event: TaskEvent) -> TaskEvent | None:
        """Note an event; return the delta that stands for those dropped before it."""
        is_gap = event.sequence - 1 > self._last
        self._last = event.sequence
        if event.type in (EventType.ITEM_ADDED, EventType.PART_ADDED):
            self._sent[_item_of(event)] = 0
        elif event.type.is_delta and _item_of(event) in self._sent:
            self._sent[_item_of(event)] += len(str(event.data.get("delta", "")))
        elif event.type in _DELTA:
            return self._end(event, is_gap=is_gap)
        return None

    def _end(self, event: TaskEvent, *, is_gap: bool) -> TaskEvent | None:
        item, (kind, field) = _item_of(event), _DELTA[event.type]
        whole = _facts_of(event).get(field)
        sent = self._sent.get(item)
        if event.type is EventType.ITEM_DONE:
            self._sent.pop(item, None)
        if sent is None or not isinstance(whole, str):
            return None
        missing = whole[sent:]
        if item in self._sent:
            self._sent[item] = len(whole)
        if not missing or not is_gap:
            return None
        data = {
            "item_id": item,
            "output_index": event.data.get("output_index", 0),
            "delta": missing,
        }
        return event.model_copy(
            update={"sequence": event.sequence - 1, "type": kind, "data": data}
        )


def _facts_of(event: TaskEvent) -> dict[str, Any]:
    item = event.data.get("item")
    return item if isinstance(item, dict) else dict(event.data)


def _item_of(event: TaskEvent) -> str:
    facts = _facts_of(event)
    return str(facts.get("item_id", facts.get("id", "")))
