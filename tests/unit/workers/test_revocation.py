"""Celery finds what it is to revoke by the task's id alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import Ignore
from celery.worker import state
from kombu.message import Message

from workers.revocation import RunRequest


@pytest.fixture(autouse=True)
def _no_requests() -> Iterator[None]:
    yield
    state.reset_state()


@pytest.fixture
def taken() -> Iterator[Any]:
    """Take a doorbell for one task and begin it."""
    app = Celery("unit", set_as_current=False)

    @app.task(name="run", ignore_result=True)
    def task() -> None:
        return None

    def take() -> RunRequest:
        headers = {"id": "one", "task": "run"}
        message = Message(body=[[], {}, {}], headers=headers)
        message._decoded_cache = message.body
        request = RunRequest(message, app=app, task=task, hostname="here")
        state.task_reserved(request)
        state.task_accepted(request)
        return request

    yield take
    app.close()


def refuse(request: RunRequest) -> None:
    def refused() -> None:
        raise Ignore("leased")

    try:
        refused()
    except Ignore:
        request.on_failure(ExceptionInfo())


def test_a_doorbell_that_is_refused_leaves_the_run_within_reach(taken: Any) -> None:
    run = taken()
    first, second = taken(), taken()
    refuse(first)
    assert state.requests == {"one": run}
    refuse(second)
    assert state.requests == {"one": run}
    refuse(taken())
    assert state.requests == {"one": run}
    state.task_ready(run)
    assert state.requests == {}


def test_who_is_refused_after_the_end_leaves_nothing(taken: Any) -> None:
    run, late = taken(), taken()
    state.task_ready(run)
    refuse(late)
    assert state.requests == {}
