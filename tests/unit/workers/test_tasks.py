"""What Celery and Flower are told of a task's outcome."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from celery import signals
from celery.app.task import Context
from celery.exceptions import Ignore, Retry

from orchestrator.celery_settings import RUN_TASK, celery_settings
from orchestrator.settings import load_settings
from workers.executor import Outcome
from workers.tasks import AgentTaskFailed, report, run


class EventSink:
    """Stands for the Celery task, as far as events go."""

    name = RUN_TASK

    def __init__(self) -> None:
        self.request = Context(id="task-1")
        self.sent: list[str] = []

    def send_event(self, kind: str, **_: object) -> None:
        self.sent.append(kind)


def test_an_answer_is_a_success() -> None:
    assert report(Outcome("completed"), celery_task=EventSink()) == "completed"


@pytest.mark.parametrize("word", ["failed", "timed_out"])
def test_a_task_without_an_answer_is_a_failure_with_its_code(word: str) -> None:
    with pytest.raises(AgentTaskFailed, match=r"^llm_unavailable$"):
        report(Outcome(word, "llm_unavailable"), celery_task=EventSink())


def test_a_released_task_is_a_retry_whose_reason_goes_into_its_event() -> None:
    with pytest.raises(Retry, match="llm_unavailable") as caught:
        report(Outcome("released", "llm_unavailable"), celery_task=EventSink())
    # What `Request.on_retry` sends, of an error that has come from a prefork child.
    sent = copy.copy(caught.value).exc
    assert repr(sent) == "AttemptReleased('llm_unavailable')"


def test_a_cancelled_task_is_shown_as_revoked() -> None:
    sink = EventSink()
    heard: list[dict[str, Any]] = []

    def hear(**facts: Any) -> None:
        heard.append(facts)

    signals.task_revoked.connect(hear)
    with pytest.raises(Ignore):
        report(Outcome("cancelled"), celery_task=sink)
    signals.task_revoked.disconnect(hear)
    assert sink.sent == ["task-revoked"]
    (facts,) = heard
    assert facts["sender"] is sink
    assert facts["request"].id == "task-1"
    assert (facts["terminated"], facts["expired"]) == (True, False)


@pytest.mark.parametrize("word", ["leased", "ended", "unknown", "lease_lost"])
def test_a_delivery_that_ran_nothing_shows_nothing(word: str) -> None:
    sink = EventSink()
    with pytest.raises(Ignore):
        report(Outcome(word), celery_task=sink)
    assert sink.sent == []


def test_a_lost_broker_cancels_no_run_and_brings_no_advice_of_celerys() -> None:
    """Celery cancels what is acknowledged late, or warns each time that it does not."""
    settings = celery_settings(load_settings())
    assert settings["worker_cancel_long_running_tasks_on_connection_loss"] is True
    assert run.acks_late is False
