"""The items of a run as its event log shows them: where each stands, what is open.

An attempt that goes on after another one finds items that were begun and not ended;
it goes on with them, so that no viewer sees an item begin twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from conversations.message import ToolCall
from orchestrator.events import EventType, TaskEvent
from workers.announcement import Announcement
from workers.run_events import tool_started_events
from workers.run_log import RunLog


@dataclass
class OpenItem:
    """An item that was begun and has not ended."""

    id: str
    index: int
    text: str = ""
    """What viewers have seen of it."""
    was_shown: bool = False
    """Whether an earlier attempt has begun it."""


class ItemLog:
    """Gives items their places."""

    def __init__(self, log: RunLog, *, attempt: int) -> None:
        self._log = log
        self._items: dict[str, OpenItem | None] = {}
        """Those that viewers know; None for one that has ended."""
        self._next = 0
        self._is_known = attempt <= 1
        self._reading = None if self._is_known else asyncio.Lock()
        """None of a first attempt, as most are: nothing was shown before."""

    async def load(self) -> None:
        """Read what earlier attempts have shown, once."""
        if self._reading is None or self._is_known:
            return
        async with self._reading:
            after = -1
            while not self._is_known:
                events = await self._log.events(after)
                for event in events:
                    self._note(event)
                    after = event.sequence
                self._is_known = not events

    async def announce(
        self, call: ToolCall, item: OpenItem, *, at_once: bool
    ) -> Announcement:
        """Have viewers told that a call begins, unless they were: now, or soon."""
        events = tool_started_events(
            call, item_id=item.id, index=item.index, in_pieces=self._log.is_watched
        )
        announcement = Announcement(self._log, () if item.was_shown else events)
        if at_once:
            await announcement.tell()
        return announcement

    def place(self, item_id: str, wanted: int) -> OpenItem:
        """Begin an item at the place that it wants, or at the next free one."""
        index = max(wanted, self._next)
        self._next = index + 1
        item = OpenItem(item_id, index)
        self._items[item_id] = item
        return item

    def has_begun(self, item_id: str) -> bool:
        """Whether viewers know the item, open or ended."""
        return item_id in self._items

    def find(self, item_id: str) -> OpenItem | None:
        """Return an item that stands open."""
        return self._items.get(item_id)

    def end(self, item: OpenItem) -> None:
        """Note that an item has ended."""
        self._items[item.id] = None

    def _note(self, event: TaskEvent) -> None:
        item = event.data.get("item")
        name = item.get("id") if isinstance(item, dict) else event.data.get("item_id")
        index = event.data.get("output_index")
        if not isinstance(name, str) or not isinstance(index, int):
            return
        if event.type is EventType.ITEM_ADDED:
            self._items[name] = OpenItem(name, index, was_shown=True)
            self._next = max(self._next, index + 1)
        elif event.type is EventType.TEXT_DELTA and (begun := self._items.get(name)):
            begun.text += str(event.data.get("delta", ""))
        elif event.type is EventType.ITEM_DONE and name in self._items:
            self._items[name] = None
