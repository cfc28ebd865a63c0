"""A task's timeline: where attempts and steps stand, and what is folded into them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.events import EventType, TaskEvent
from orchestrator.http.page.timeline import WIDTH, Timeline, make_timeline
from orchestrator.journal import Step, StepKind

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Log:
    """Events in the making."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []

    def add(
        self, kind: EventType, seconds: float, attempt: int = 1, **data: Any
    ) -> None:
        self.events.append(
            TaskEvent(
                sequence=len(self.events),
                type=kind,
                at=at(seconds),
                attempt=attempt,
                data=data,
            )
        )


def step(key: str, kind: StepKind, ends: float, seconds: float, **more: Any) -> Step:
    return Step(key=key, kind=kind, seconds=seconds, recorded_at=at(ends), **more)


def two_attempts(*steps: Step) -> Timeline:
    """Ten seconds, an hour between, ten seconds."""
    log = Log()
    log.add(EventType.TASK_STARTED, 0, worker="one")
    log.add(EventType.TASK_RELEASED, 10, reason="its worker vanished")
    log.add(EventType.TASK_STARTED, 3610, 2, worker="two")
    log.add(EventType.TASK_COMPLETED, 3620, 2)
    return make_timeline(log.events, steps, now=at(9999))


def test_what_lies_between_attempts_takes_no_room() -> None:
    timeline = two_attempts()
    first, second = timeline.attempts
    assert timeline.seconds == 20
    assert abs(first.width - second.width) < 1
    assert first.width > WIDTH / 3
    assert second.x + second.width <= WIDTH + 1
    assert second.wait_before_seconds == 3600
    assert first.outcome == "released: its worker vanished"
    assert (first.worker, second.worker) == ("one", "two")


def test_steps_stand_in_their_attempt_in_order_of_beginning() -> None:
    late = step("completion:2", StepKind.COMPLETION, 3615, 5, attempt=2)
    early = step("completion:1", StepKind.COMPLETION, 5, 5, attempt=1)
    timeline = two_attempts(late, early)
    assert [row.key for row in timeline.rows] == ["completion:1", "completion:2"]
    first, second = timeline.attempts
    one, two = timeline.rows
    assert (one.x, two.x) == (first.x, second.x)
    assert abs(one.width - first.width / 2) < 1
    assert second.resumed == 1
    assert first.resumed == 0


def test_a_step_that_seems_to_begin_before_its_attempt_stays_in_it() -> None:
    long = step("tool:1", StepKind.TOOL_CALL, 3612, 600, attempt=2)
    timeline = two_attempts(long)
    assert timeline.rows[0].x >= timeline.attempts[1].x


def test_a_task_without_an_attempt_has_an_empty_timeline() -> None:
    log = Log()
    log.add(EventType.TASK_CREATED, 0)
    timeline = make_timeline(log.events, (), now=at(5))
    assert (timeline.attempts, timeline.rows, timeline.seconds) == ((), (), 0)


def test_a_call_under_way_reaches_to_now_and_one_of_a_gone_attempt_is_not_shown() -> (
    None
):
    item = {"id": "call-1:a", "type": "tool_call", "arguments": {"q": "x"}}
    log = Log()
    log.add(EventType.TASK_STARTED, 0)
    log.add(EventType.TOOL_CALL_STARTED, 1, item_id="call-1:gone", name="gone")
    log.add(EventType.TASK_RELEASED, 2, reason="again")
    log.add(EventType.TASK_STARTED, 2, 2)
    log.add(EventType.ITEM_ADDED, 3, 2, item=item)
    log.add(EventType.TOOL_CALL_STARTED, 3, 2, item_id="call-1:a", name="search")
    (row,) = make_timeline(log.events, (), now=at(4)).rows
    assert (row.name, row.is_open, row.facts["Arguments"]) == (
        "search",
        True,
        '{"q":"x"}',
    )
    assert row.x + row.width == WIDTH
    log.add(EventType.TASK_FAILED, 5, 2, message="it broke")
    ended = make_timeline(log.events, (), now=at(9))
    assert ended.rows == ()
    assert ended.attempts[-1].outcome == "failed: it broke"


def test_a_finished_call_brings_its_arguments_and_result() -> None:
    log = Log()
    log.add(EventType.TASK_STARTED, 0)
    item = {"id": "call-1:a", "type": "tool_call", "arguments": {"n": 7}}
    log.add(EventType.ITEM_ADDED, 1, item=item)
    done = step(
        "tool:1:a",
        StepKind.TOOL_CALL,
        2,
        1,
        name="find",
        error="tool_failed",
        outcome={"call_id": "a", "content": "no such order"},
    )
    (row,) = make_timeline(log.events, [done], now=at(3)).rows
    assert row.facts == {"Arguments": '{"n":7}', "Error": "no such order"}


def test_a_completion_brings_its_answer_and_what_it_asks_for() -> None:
    call = {"id": "a", "name": "find", "arguments": {"n": 7}}
    message = {"content": "", "reasoning": "hm", "tool_calls": [call]}
    done = step("completion:1", StepKind.COMPLETION, 2, 1, outcome={"message": message})
    log = Log()
    log.add(EventType.TASK_STARTED, 0)
    (row,) = make_timeline(log.events, [done], now=at(3)).rows
    assert row.said == "asks for find"
    assert row.facts == {"Reasoning": "hm", "Asks for": 'find({"n":7})'}


def test_text_is_live_until_it_is_done_or_its_attempt_is_gone() -> None:
    log = Log()
    log.add(EventType.TASK_STARTED, 0)
    log.add(EventType.PART_ADDED, 1)
    log.add(EventType.TEXT_DELTA, 1, delta="Good ")
    log.add(EventType.TEXT_DELTA, 1, delta="day")
    assert make_timeline(log.events, (), now=at(2)).live_text == "Good day"
    log.add(EventType.TASK_RELEASED, 2, reason="its worker vanished")
    assert make_timeline(log.events, (), now=at(2)).live_text == ""
    log.add(EventType.TASK_STARTED, 3, 2)
    log.add(EventType.PART_ADDED, 3, 2)
    log.add(EventType.TEXT_DELTA, 3, 2, delta="Good")
    assert make_timeline(log.events, (), now=at(4)).live_text == "Good"
    log.add(EventType.TEXT_DONE, 4, 2, text="Good")
    assert make_timeline(log.events, (), now=at(4)).live_text == ""
