"""Streams of texts whose deltas have gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.http.facade.whole_texts import with_whole_texts
from workers.run_events import (
    message_begun_events,
    message_cut_event,
    message_ended_events,
    text_delta_event,
)

PIECES = ("one ", "two ", "three")
TEXT = "".join(PIECES)


def numbered(events: Sequence[NewEvent]) -> list[TaskEvent]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        TaskEvent(sequence=n, at=at, type=event.type, data=event.data)
        for n, event in enumerate(events)
    ]


def message(item_id: str = "msg-1", index: int = 0) -> list[NewEvent]:
    return [
        *message_begun_events(item_id, index),
        *(text_delta_event(piece, item_id, index) for piece in PIECES),
        *message_ended_events(TEXT, item_id, index),
    ]


def kept(events: Sequence[TaskEvent]) -> list[TaskEvent]:
    return [event for event in events if not event.type.is_delta]


async def streamed(events: Sequence[TaskEvent | None]) -> list[TaskEvent | None]:
    async def source() -> AsyncIterator[TaskEvent | None]:
        for event in events:
            yield event

    return [event async for event in with_whole_texts(source())]


def deltas(events: Sequence[TaskEvent | None]) -> list[tuple[int, Any]]:
    return [(e.sequence, e.data["delta"]) for e in events if e and e.type.is_delta]


async def test_a_stream_that_holds_its_deltas_is_left_as_it_is() -> None:
    events = [*numbered(message()), None]
    assert await streamed(events) == events


async def test_a_text_comes_as_one_delta_with_the_number_of_the_last_dropped() -> None:
    found = await streamed(kept(numbered([*message(), *message("msg-2", 1)])))
    assert deltas(found) == [(4, TEXT), (12, TEXT)]
    numbers = [event.sequence for event in found if event]
    assert numbers == sorted(set(numbers))


async def test_what_was_read_before_the_drop_is_not_said_again() -> None:
    events = numbered(message())
    found = await streamed([*events[:4], *events[5:]])
    assert "".join(delta for _, delta in deltas(found)) == TEXT


@pytest.mark.parametrize("after", [1, 2, 4])
async def test_an_item_that_began_before_is_left_alone(after: int) -> None:
    events = kept(numbered(message()))
    found = await streamed([each for each in events if each.sequence > after])
    assert deltas(found) == []


async def test_an_item_that_was_cut_has_its_text_too() -> None:
    cut = [*message_begun_events("msg-1", 0), text_delta_event("one", "msg-1", 0)]
    events = numbered([*cut, message_cut_event("one", "msg-1", 0), *message("m", 1)])
    assert deltas(await streamed(kept(events))) == [(2, "one"), (8, TEXT)]


async def test_arguments_of_a_clients_call_come_as_one_delta() -> None:
    place = {"item_id": "client-1:a", "output_index": 0}
    item = {"id": "client-1:a", "type": "client_tool_call"}
    events = numbered(
        [
            NewEvent(type=EventType.ITEM_ADDED, data={"output_index": 0, "item": item}),
            NewEvent(type=EventType.ARGUMENTS_DELTA, data={**place, "delta": "{}"}),
            NewEvent(type=EventType.ARGUMENTS_DONE, data={**place, "arguments": "{}"}),
            NewEvent(type=EventType.ITEM_DONE, data={"output_index": 0, "item": item}),
        ]
    )
    assert await streamed(kept(events)) == events


async def test_gaps_of_other_kinds_make_no_text() -> None:
    events = numbered([*message(), NewEvent(type=EventType.TASK_COMPLETED, data={})])
    assert await streamed([events[0], events[-1]]) == [events[0], events[-1]]
