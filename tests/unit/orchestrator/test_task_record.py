"""Tasks, steps and events as stored text."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.journal import Step, StepKind
from orchestrator.journal_entries import step_from_entry, step_text
from orchestrator.task import Task, TaskStatus
from orchestrator.task_record import (
    accepted,
    cache_hash,
    milliseconds,
    read_cursor,
    request_hash,
    task_from_fields,
)
from orchestrator.task_specification import STATE_FIELDS, specification

TASK = Task(agent_name="a", input={"x": [], "y": {}, "z": "ä"}, tags=("t",))
STATE = {"status": "pending", "attempt": "0", "created_ms": "1700000000123"}


def test_a_record_reads_back_what_was_given() -> None:
    read = task_from_fields({"spec": specification(TASK)} | STATE)
    created_at = datetime.fromtimestamp(1700000000.123, UTC)
    assert read == TASK.model_copy(update={"created_at": created_at})


def test_a_specification_holds_no_state() -> None:
    assert not STATE_FIELDS & json.loads(specification(TASK)).keys()
    assert set(Task.model_fields) >= STATE_FIELDS


def test_what_a_newer_release_added_is_left_out() -> None:
    newer = json.dumps(json.loads(specification(TASK)) | {"colour": "red"})
    failure = json.dumps({"code": "boom", "message": "m", "shape": "round"})
    read = task_from_fields({"spec": newer, "failure": failure} | STATE)
    assert read.input == TASK.input
    assert read.failure is not None


def test_two_sendings_of_a_request_are_equal() -> None:
    again = Task(agent_name="a", input=TASK.input, tags=("t",), idempotency_key="k")
    assert request_hash(again) == request_hash(TASK)
    assert request_hash(TASK.model_copy(update={"tags": ()})) != request_hash(TASK)


def test_the_cache_knows_version_input_parameters_and_context_only() -> None:
    tagged = TASK.model_copy(update={"tags": (), "priority": 9})
    assert cache_hash(tagged) == cache_hash(TASK)
    versioned = TASK.model_copy(update={"agent_version": "2"})
    assert cache_hash(versioned) != cache_hash(TASK)


def test_acceptance_resets_the_state() -> None:
    now = datetime.now(UTC)
    made_up = TASK.model_copy(update={"status": TaskStatus.FAILED, "attempt": 3})
    begun = accepted(made_up, created_at=now, due_at=now)
    assert begun == TASK.model_copy(update={"created_at": now, "due_at": now})


def test_a_step_reads_back_with_its_instant() -> None:
    step = Step(key="k 1", kind=StepKind.CUSTOM, outcome={"a": []})
    read = step_from_entry(f"0 1700000000123 {step_text(step, attempt=2)}")
    assert (read.key, read.outcome, read.attempt) == ("k 1", {"a": []}, 2)
    assert read.recorded_at == datetime.fromtimestamp(1700000000.123, UTC)


def test_milliseconds_round_up_so_that_no_period_is_nothing() -> None:
    assert [milliseconds(seconds) for seconds in (0.0001, 0.5, 2)] == [1, 500, 2000]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣"])
def test_a_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        read_cursor(cursor)


def test_stores_in_memory_load_no_redis() -> None:
    program = (
        "import sys, orchestrator.memory_store, orchestrator.memory_directory;"
        "sys.exit('redis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
