"""A specification reads back as it was given, and a foreign one is refused."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.budget_limits import TaskBudget
from orchestrator.errors import UnreadableRecord
from orchestrator.task import RetryPolicy, Task
from orchestrator.task_record import task_from_fields
from orchestrator.task_specification import BESIDE, specification

STATE = {"status": "pending", "attempt": "0", "created_ms": "1700000000123"}
CREATED = {"created_at": datetime.fromtimestamp(1700000000.123, UTC)}
TEXT = specification(Task(agent_name="a", input={"x": []}, tags=("t",)))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input": {"deep": [{"a": None}]}, "tags": ("t", "ä"), "priority": 9},
        {"conversation_id": "c", "soft_time_limit_seconds": 5, "deadline_seconds": 9.5},
        {"when_busy": "steer", "after": ("b",), "after_failure": "run"},
        {"retry": RetryPolicy(max_attempts=2), "budget": TaskBudget(tokens=5)},
        {
            "not_before": datetime(2030, 1, 2, tzinfo=UTC),
            "webhook": "https://a.example",
        },
    ],
)
def test_a_task_reads_back_as_it_was_given(fields: dict[str, Any]) -> None:
    task = Task(agent_name="a", **fields)
    read = task_from_fields({"spec": specification(task)} | STATE)
    given = task.model_copy(update=CREATED)
    assert read == given
    assert read.model_dump_json() == given.model_dump_json()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input": {"a": None, "b": [1.5, "\0", {}]}, "metadata": {"x": 'é"'}},
        {"parameters": {"p": 1e16}, "context": {"": ""}, "agent_version": '1"0'},
        {"tags": ("a", "\0"), "priority": 0, "soft_time_limit_seconds": 1e-7},
        {"tags": ("a", "\0\0"), "input": {"\0": "\0"}},
        {"expires_seconds": 1.0, "cache_ttl_seconds": 2.0, "tenant": "b"},
        {"conversation_id": "c", "input": {"prompt": "x"}},
        {"not_before": datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)},
        {"retry": RetryPolicy(max_attempts=2), "budget": TaskBudget(tokens=5)},
        {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"},
    ],
)
def test_it_is_what_pydantic_writes_of_the_task(fields: dict[str, Any]) -> None:
    """Releases compare it: a task that is sent again must be written alike."""
    for agent in ("a", "b", "a"):
        task = Task(agent_name=agent, **fields)
        assert specification(task) == task.model_dump_json(
            exclude=BESIDE, exclude_none=True
        )


def test_two_tasks_share_no_value_that_can_be_changed() -> None:
    first, second = (task_from_fields({"spec": TEXT} | STATE) for _ in range(2))
    first.input["x"] = first.metadata["y"] = 1
    assert (second.input, second.metadata) == ({"x": []}, {})


@pytest.mark.parametrize(
    "foreign",
    [
        {"agent_name": 5},
        {"agent_name": None},
        {"id": "not an id"},
        {"input": [1]},
        {"metadata": "none"},
        {"priority": "4"},
        {"priority": True},
        {"when_busy": "shrug"},
        {"after_failure": "panic"},
        {"after": "b"},
        {"tags": [1]},
        {"tags": "t"},
        {"soft_time_limit_seconds": "5 s"},
        {"retry": 3},
    ],
)
def test_a_specification_of_another_form_is_not_read(foreign: dict[str, Any]) -> None:
    text = json.dumps(json.loads(TEXT) | foreign)
    with pytest.raises(UnreadableRecord):
        task_from_fields({"spec": text} | STATE)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{}", '{"id":"a"}', "{"])
def test_what_is_no_specification_is_not_read(text: str) -> None:
    with pytest.raises(UnreadableRecord):
        task_from_fields({"spec": text} | STATE)


@pytest.mark.parametrize("name", ["input", "after_failure", "tags", "metadata"])
def test_a_field_that_an_older_release_did_not_write_has_its_default(name: str) -> None:
    older = {key: item for key, item in json.loads(TEXT).items() if key != name}
    read = task_from_fields({"spec": json.dumps(older)} | STATE)
    default = Task(agent_name="a")
    assert getattr(read, name) == getattr(default, name)
