"""A doorbell of ours is read by its text as any other message is read."""

from __future__ import annotations

import re

import pytest
from celery.app.task import Context
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.celery_settings import RUN_TASK
from orchestrator.doorbell_message import doorbell_message
from workers import doorbell
from workers.doorbell import read_task_call
from workers.task_message import MalformedMessage, parse_task_call

FACTS = {
    "TENANT": "default",
    "TASK": "task-1f",
    "AGENT": "researcher",
    "QUEUE": "celeriac",
    "URGENCY": "5",
    "TAG": "1732-55-task-1f",
    "TRACE": "null",
}
names = st.text("abzAZ09_-.", min_size=1, max_size=70)
traces = st.just("null") | st.from_regex(
    '"00-[0-9a-f]{32}-[0-9a-f]{16}-01"', fullmatch=True
)


def message(**facts: str) -> bytes:
    text = doorbell_message()
    for name, value in (FACTS | facts).items():
        text = text.replace(f"${name}", value)
    return text.encode()


def test_the_usual_doorbell_is_known_by_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorbell, "parse_task_call", None)
    call = read_task_call(message(), accept=[RUN_TASK])
    assert call.kwargs == {"tenant": "default", "task_id": "task-1f"}
    assert (call.id, call.name, call.priority) == ("task-1f", RUN_TASK, 5)


@given(names, names, names, st.sampled_from("0123456789"), traces)
def test_both_readings_are_one(
    task: str, agent: str, queue: str, urgency: str, trace: str
) -> None:
    raw = message(
        TENANT=task[::-1], TASK=task, AGENT=agent, QUEUE=queue, URGENCY=urgency,
        TRACE=trace,
    )  # fmt: skip
    found = read_task_call(raw, accept=[RUN_TASK])
    assert found == parse_task_call(raw, accept=[RUN_TASK])


@pytest.mark.parametrize("accept", [[], ["other"]])
def test_a_task_that_is_not_served_is_refused(accept: list[str]) -> None:
    with pytest.raises(MalformedMessage) as refused:
        read_task_call(message(), accept=accept)
    assert refused.value.reason == "foreign_task"


@given(st.data())
def test_one_other_character_is_judged_as_in_any_message(data: st.DataObject) -> None:
    raw = bytearray(message())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    expected: object
    try:
        expected = parse_task_call(bytes(raw), accept=[RUN_TASK])
    except MalformedMessage as exc:
        expected = exc.reason
    found: object
    try:
        found = read_task_call(bytes(raw), accept=[RUN_TASK])
    except MalformedMessage as exc:
        found = exc.reason
    assert found == expected


def test_a_fact_that_differs_where_it_comes_again_is_no_doorbell_of_ours() -> None:
    text = message().decode()
    places = [found.start() for found in re.finditer("task-1f", text)]
    assert len(places) > 3
    for place in places:
        raw = (text[:place] + "task-2f" + text[place + 7 :]).encode()
        found = read_task_call(raw, accept=None)
        assert found == parse_task_call(raw, accept=None)


@given(traces)
def test_headers_of_its_own_are_those_that_celery_would_find(trace: str) -> None:
    call = read_task_call(message(TRACE=trace), accept=None)
    known = {"id": call.id, "task": call.name, "ignore_result": call.ignore_result}
    assert (Context(call.labels | known).headers or {}) == call.own_headers()
