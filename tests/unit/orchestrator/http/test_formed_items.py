"""The items of a response whose client reads the answer as JSON."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.http.facade.formed_items import FormedItems
from tests.unit.orchestrator.http.test_shown_text import CALL, said, tried
from tests.unit.orchestrator.http.test_whole_texts import numbered

ANSWER = '{"city": "Oslo"}'
FENCED = f"Here it is:\n```json\n{ANSWER}\n```"
COMPLETED = [NewEvent(EventType.TASK_COMPLETED, {})]
FAILED = [NewEvent(EventType.TASK_FAILED, {})]


def taken(*parts: Sequence[NewEvent]) -> list[list[TaskEvent]]:
    """What is passed on after each event."""
    items = FormedItems()
    events = numbered([event for part in parts for event in part])
    return [items.take(event) for event in events]


def passed(*parts: Sequence[NewEvent]) -> list[TaskEvent]:
    return [event for some in taken(*parts) for event in some]


def phases(events: Sequence[TaskEvent], name: str) -> list[object]:
    items = [e.data["item"] for e in events if "item" in e.data]
    return [i.get("phase") for i in items if isinstance(i, dict) and i["id"] == name]


def texts(events: Sequence[TaskEvent], name: str) -> list[object]:
    """Each text that the events of an item hold."""
    found: list[object] = []
    for event in events:
        item = event.data.get("item", {})
        assert isinstance(item, dict)
        if name in (event.data.get("item_id"), item.get("id")):
            facts = item or event.data
            found += [facts[key] for key in ("delta", "text") if key in facts]
    return found


def test_json_is_passed_on_as_it_comes() -> None:
    answer = said("msg-1", " \n", '{"city": ', '"Oslo"}')
    passed_on = taken(answer, COMPLETED)
    assert [len(some) for some in passed_on] == [0, 0, 0, 4, 1, 1, 1, 1, 1]
    assert passed(answer, COMPLETED) == numbered([*answer, *COMPLETED])


def test_what_is_said_before_a_call_has_its_phase_from_the_first() -> None:
    events = [*said("msg-1", "I look", " it up."), *CALL, *said("msg-2", ANSWER)]
    found = passed(events, COMPLETED)
    assert phases(found, "msg-1") == ["commentary"] * 2
    assert phases(found, "msg-2") == [None] * 2
    assert texts(found, "msg-1") == ["I look", " it up.", *["I look it up."] * 3]
    assert [e.sequence for e in found] == [*range(len(events) + 1)]


def test_an_answer_that_did_not_fit_is_none() -> None:
    found = passed(said("msg-1", "Oslo!"), said("msg-2", ANSWER), COMPLETED)
    assert phases(found, "msg-1") == ["commentary"] * 2


def test_an_answer_in_a_fence_comes_without_it_at_the_end() -> None:
    half = len(FENCED) // 2
    found = passed(said("msg-1", FENCED[:half], FENCED[half:]), COMPLETED)
    assert texts(found, "msg-1") == [ANSWER] * 4
    assert phases(found, "msg-1") == [None] * 2
    assert found[-1].type is EventType.TASK_COMPLETED


@pytest.mark.parametrize("text", ["Oslo, I think", "```json\n{oslo}\n```"])
def test_an_answer_that_is_no_json_comes_as_it_is(text: str) -> None:
    events = [*said("msg-1", text), *COMPLETED]
    assert passed(events) == numbered(events)


def test_what_is_held_back_when_a_run_fails_comes_as_it_is() -> None:
    for begun in (said("msg-1", FENCED), said("msg-1", FENCED)[:3]):
        assert passed(begun, FAILED) == numbered([*begun, *FAILED])


def test_a_message_that_is_begun_anew_is_passed_on_where_it_was_cut() -> None:
    cut = tried("msg-1", "Os")
    assert len(taken(cut)[-1]) == len(cut)
    found = passed(cut, said("msg-1.2", ANSWER), COMPLETED)
    assert phases(found, "msg-1") == [None] * 2


def test_what_a_reader_has_begun_before_is_left_alone() -> None:
    rest = [*said("msg-1", ANSWER)[2:], *COMPLETED]
    assert passed(rest) == numbered(rest)
