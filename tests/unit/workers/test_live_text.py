"""A message that is shown while it is written, across tries and attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.journal import Unfinished
from workers import live_text
from workers.item_log import ItemLog
from workers.live_text import LiveText
from workers.run_log import DetachedRunLog


class ShownLog(DetachedRunLog):
    """Keeps what viewers are told."""

    def __init__(self) -> None:
        self.shown: list[NewEvent] = []
        self.kept: list[Unfinished] = []
        self.grown = asyncio.Event()

    async def emit(
        self, events: Sequence[NewEvent], *, unfinished: Unfinished | None = None
    ) -> None:
        self.shown += events
        self.kept += [unfinished] if unfinished else []
        self.grown.set()

    async def events(self, after: int) -> tuple[TaskEvent, ...]:
        return tuple(
            TaskEvent(sequence=n, type=e.type, at=datetime.now(UTC), data=e.data)
            for n, e in enumerate(self.shown)
            if n > after
        )

    def text_of(self, item_id: str) -> str:
        return "".join(
            str(e.data["delta"])
            for e in self.shown
            if e.type is EventType.TEXT_DELTA and e.data["item_id"] == item_id
        )

    def ended(self) -> list[tuple[object, object, object]]:
        """Id, text and status of every item that has ended."""
        items = [e.data["item"] for e in self.shown if e.type is EventType.ITEM_DONE]
        return [
            (item["id"], item["text"], item.get("status", "completed"))
            for item in items
            if isinstance(item, dict)
        ]

    def begun(self) -> list[tuple[object, object]]:
        return [
            (e.data["item"]["id"], e.data["output_index"])  # type: ignore[index, call-overload]
            for e in self.shown
            if e.type is EventType.ITEM_ADDED
        ]


async def heard(log: ShownLog, live: LiveText, *pieces: str) -> None:
    """Tell pieces and wait until the last is shown, then stop."""
    live.again()
    for piece in pieces:
        log.grown.clear()
        live.hear(piece)
        async with asyncio.timeout(10):
            await log.grown.wait()
    await live.pause()


async def begin(log: ShownLog, items: ItemLog) -> LiveText:
    live = LiveText(log, items, number=1, index=0)
    await live.load()
    return live


async def finish(log: ShownLog, live: LiveText, content: str) -> None:
    await log.emit(live.finish(content))


async def test_pieces_and_the_rest_make_the_whole_text() -> None:
    log = ShownLog()
    live = await begin(log, ItemLog(log, attempt=1))
    await heard(log, live, "Hel", "lo")
    await finish(log, live, "Hello you")
    assert log.text_of("msg-1") == "Hello you"
    assert log.begun() == [("msg-1", 0)]
    assert log.ended() == [("msg-1", "Hello you", "completed")]


async def test_without_a_viewer_the_message_comes_whole() -> None:
    log = ShownLog()
    live = await begin(log, ItemLog(log, attempt=1))
    await finish(log, live, "Hello")
    assert [event.type for event in log.shown] == [
        EventType.ITEM_ADDED,
        EventType.PART_ADDED,
        EventType.TEXT_DELTA,
        EventType.TEXT_DONE,
        EventType.PART_DONE,
        EventType.ITEM_DONE,
    ]
    live = await begin(log, ItemLog(log, attempt=1))
    before = len(log.shown)
    await finish(log, live, "")
    assert len(log.shown) == before


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_try_that_says_the_same_goes_on_where_the_viewers_are(
    attempt: int,
) -> None:
    log = ShownLog()
    items = ItemLog(log, attempt=1)
    await heard(log, await begin(log, items), "One t")
    again = items if attempt == 1 else ItemLog(log, attempt=2)
    live = await begin(log, again)
    live.again()
    live.hear("One")
    await live.pause()
    await finish(log, live, "One two")
    assert log.text_of("msg-1") == "One two"
    assert log.begun() == [("msg-1", 0)]
    assert log.ended() == [("msg-1", "One two", "completed")]


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_try_that_says_something_else_is_another_item(attempt: int) -> None:
    log = ShownLog()
    items = ItemLog(log, attempt=1)
    await heard(log, await begin(log, items), "One t")
    again = items if attempt == 1 else ItemLog(log, attempt=2)
    live = await begin(log, again)
    await heard(log, live, "Two")
    await finish(log, live, "Two!")
    assert log.ended() == [
        ("msg-1", "One t", "incomplete"),
        ("msg-1.2", "Two!", "completed"),
    ]
    assert log.begun() == [("msg-1", 0), ("msg-1.2", 1)]
    third = await begin(log, ItemLog(log, attempt=3))
    await finish(log, third, "Three")
    assert log.begun()[-1] == ("msg-1.3", 2)


async def test_a_try_that_says_nothing_ends_what_was_shown() -> None:
    log = ShownLog()
    items = ItemLog(log, attempt=1)
    await heard(log, await begin(log, items), "One t")
    live = await begin(log, items)
    await finish(log, live, "")
    assert log.ended() == [("msg-1", "One t", "incomplete")]


async def test_an_item_of_an_earlier_attempt_keeps_its_place() -> None:
    log = ShownLog()
    first = ItemLog(log, attempt=1)
    first.place("call-1:a", 0)
    data = {"output_index": 4, "item": {"id": "call-1:a", "type": "tool_call"}}
    await log.emit([NewEvent(type=EventType.ITEM_ADDED, data=data)])
    items = ItemLog(log, attempt=2)
    await items.load()
    found = items.find("call-1:a")
    assert found is not None
    assert found.index == 4
    assert items.place("call-1:b", 1).index == 5


async def test_what_was_heard_is_kept_when_the_try_is_left() -> None:
    log = ShownLog()
    live = await begin(log, ItemLog(log, attempt=1))
    live.again()
    live.hear("One ")
    async with asyncio.timeout(10):
        await log.grown.wait()
    live.hear("two")
    await live.leave()
    assert log.kept[-1] == Unfinished("completion:1", "One two")
    assert log.text_of("msg-1") == "One two"
    assert log.ended() == []
    kept = len(log.kept)
    await live.leave()
    assert len(log.kept) == kept


async def test_the_whole_text_is_written_now_and_then_and_not_with_each_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_text, "KEEP_SECONDS", 60.0)
    log = ShownLog()
    live = await begin(log, ItemLog(log, attempt=1))
    await heard(log, live, "One ", "two ", "three")
    assert log.text_of("msg-1") == "One two three"
    assert log.kept == [Unfinished("completion:1", "One ")]


async def test_a_try_that_was_left_before_it_spoke_keeps_what_the_first_has_said() -> (
    None
):
    log = ShownLog()
    items = ItemLog(log, attempt=1)
    live = await begin(log, items)
    await heard(log, live, "One t")
    await live.leave()
    again = await begin(log, ItemLog(log, attempt=2))
    again.again()
    await again.leave()
    again.hear("One")
    await again.leave()
    assert {unfinished.text for unfinished in log.kept} == {"One t"}


async def test_a_store_that_is_away_when_a_try_is_left_is_no_error() -> None:
    class GoneLog(ShownLog):
        async def emit(self, events: object, **_: object) -> None:
            raise StoreUnavailable("gone")

    log = GoneLog()
    live = await begin(log, ItemLog(log, attempt=1))
    live.again()
    live.hear("One")
    await live.leave()


async def test_a_cancel_does_not_keep_what_was_heard_from_being_told() -> None:
    log = ShownLog()
    live = await begin(log, ItemLog(log, attempt=1))
    live.hear("one ")
    await log.grown.wait()
    live.hear("two")
    leaving = asyncio.create_task(live.leave())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert log.text_of("msg-1") == "one two"
    assert log.kept[-1] == Unfinished("completion:1", "one two")
