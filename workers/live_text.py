"""A message that viewers see while the model writes it.

Pieces are gathered, so that a token costs no write. A completion that is asked for
again goes on where viewers are: what they have seen is not shown twice, and when the
model says something else now, the item ends as incomplete and another begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from orchestrator.errors import StoreUnavailable
from orchestrator.events import NewEvent
from orchestrator.journal import Unfinished
from workers.item_log import ItemLog, OpenItem
from workers.run_events import (
    message_begun_events,
    message_cut_event,
    message_ended_events,
    text_delta_event,
)
from workers.run_log import RunLog

GATHER_SECONDS = 0.1
"""Between two writes; faster than people read."""
KEEP_SECONDS = 1.0
"""Between two writes of the whole text, which a turn without an answer leaves: so much
of it a killed worker may take along."""


class LiveText:
    """One message of a run."""

    def __init__(self, log: RunLog, items: ItemLog, *, number: int, index: int) -> None:
        """Begin the message of a run's n-th completion, its item at a place."""
        self._log = log
        self._items = items
        self._name = f"msg-{number}"
        self._key = f"completion:{number}"
        self._index = index
        self._heard = ""
        self._pieces: list[str] = []
        """Heard since then; joined when they are written."""
        self._tries = 1
        self._item: OpenItem | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_resting = False
        self._is_ending = False
        self._kept = ""
        self._keep_from = 0.0

    async def load(self) -> None:
        """Find what an earlier attempt or try has shown of it."""
        await self._items.load()
        while self._items.has_begun(self._id()):
            self._item = self._items.find(self._id())
            if self._item is not None:
                return
            self._tries += 1

    def again(self) -> None:
        """Begin anew: the model is asked (again)."""
        self._heard, self._pieces = "", []

    def hear(self, text: str) -> None:
        """Take a piece of the answer."""
        self._pieces.append(text)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def pause(self) -> None:
        """Write no more; what was shown stays open for the next try."""
        if self._writing is None:
            return
        self._is_ending = True
        if self._is_resting:
            self._writing.cancel()
        await asyncio.wait({self._writing})
        if not self._writing.cancelled():
            self._writing.result()

    async def leave(self) -> None:
        """Tell and keep all that was heard: this try will not end.

        A store that is away takes the rest of the text with it, no more. A cancel
        waits: the limit of a request and that of its run come in one moment.
        """
        leaving = asyncio.create_task(self._leave())
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await asyncio.wait({leaving})
            if not leaving.cancelled():
                leaving.exception()  # the cancel is what its run hears of
            raise

    async def _leave(self) -> None:
        with suppress(StoreUnavailable):
            await self.pause()
            self._keep_from = 0.0
            events, unfinished = self._catch_up(is_whole=False), self._unfinished()
            if events or unfinished:
                await self._log.emit(events, unfinished=unfinished)

    def finish(self, content: str, *, is_commentary: bool = False) -> list[NewEvent]:
        """Return the events that are missing to the whole message, to be recorded.

        Nothing may be heard any more; see `pause`.
        """
        self._heard, self._pieces = content, []
        events = [*self._catch_up(is_whole=True)]
        if self._item is not None:
            place = (self._item.id, self._item.index)
            events += message_ended_events(content, *place, is_commentary=is_commentary)
            self._items.end(self._item)
        return events

    @property
    def shown_as(self) -> str | None:
        """The message's id, where an earlier try that was cut has taken its own."""
        return self._item.id if self._item is not None and self._tries > 1 else None

    async def _write(self) -> None:
        self._is_resting = False
        while not self._is_ending and (events := self._catch_up(is_whole=False)):
            await self._log.emit(events, unfinished=self._unfinished())
            if self._is_ending:
                return
            self._is_resting = True
            await asyncio.sleep(GATHER_SECONDS)
            self._is_resting = False

    def _unfinished(self) -> Unfinished | None:
        """Return the text so far, when it is time to keep it."""
        if self._heard in ("", self._kept) or monotonic() < self._keep_from:
            return None
        self._kept, self._keep_from = self._heard, monotonic() + KEEP_SECONDS
        shown = self._item.text if self._item else ""
        text = shown if shown.startswith(self._heard) else self._heard
        return Unfinished(self._key, text)

    def _catch_up(self, *, is_whole: bool) -> Sequence[NewEvent]:
        """Return what leads from what was shown to what was heard."""
        if self._pieces:
            self._heard += "".join(self._pieces)
            self._pieces = []
        shown = self._item.text if self._item else ""
        if self._heard == shown or (not is_whole and shown.startswith(self._heard)):
            return ()
        events: list[NewEvent] = []
        if self._item is not None and not self._heard.startswith(shown):
            events.append(message_cut_event(shown, self._item.id, self._item.index))
            self._items.end(self._item)
            self._item, shown = None, ""
            self._tries += 1
        if not self._heard:
            return events
        if self._item is None:
            self._item = self._items.place(self._id(), self._index)
            events += message_begun_events(self._item.id, self._item.index)
        delta = self._heard[len(shown) :]
        self._item.text = self._heard
        events.append(text_delta_event(delta, self._item.id, self._item.index))
        return events

    def _id(self) -> str:
        return self._name if self._tries == 1 else f"{self._name}.{self._tries}"
