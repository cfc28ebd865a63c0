"""What was checked before it was stored is read by its types alone."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    Strict,
    ValidationError,
)

from orchestrator.stored_form import StoredForm
from orchestrator.task import RetryPolicy, Task, TaskResult
from orchestrator.task_record import task_from_fields
from orchestrator.task_specification import STATE_FIELDS, specification


def refuse(value: object) -> object:
    raise ValueError(f"looked at {value!r}")


Guarded = Annotated[str, Strict(), AfterValidator(refuse)]


class Model(BaseModel):
    name: Guarded
    maybe: Guarded | None = None
    many: tuple[Guarded, ...] = Field(default=(), max_length=2)
    facts: Annotated[dict[str, int], BeforeValidator(refuse)] = Field(
        default_factory=dict
    )
    kept_elsewhere: int


FORM = StoredForm(Model, without=frozenset({"kept_elsewhere"}))


def test_our_functions_are_not_called_again() -> None:
    text = '{"name": "n", "maybe": "m", "many": ["a", "b"], "facts": {"x": 1}}'
    assert FORM.read(text) == {
        "name": "n",
        "maybe": "m",
        "many": ("a", "b"),
        "facts": {"x": 1},
    }


def test_fields_of_a_newer_release_are_left_out_and_absent_ones_have_defaults() -> None:
    read = FORM.read('{"name": "n", "colour": "red"}')
    assert read == {"name": "n", "maybe": None, "many": (), "facts": {}}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"name": 1}',
        '{"name": "n", "facts": []}',
        '{"name": "n", "many": ["a", "b", "c"]}',
        '{"name": "n", "maybe": 3}',
        "not json",
    ],
)
def test_what_is_of_another_type_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        FORM.read(text)


def test_a_task_with_every_field_reads_as_it_was_written() -> None:
    task = Task(
        agent_name="a",
        agent_version="2",
        tenant="t",
        input={"deep": [{"x": None, "y": 2**80, "z": "\x00ä"}]},
        parameters={"p": 1.5},
        context={"c": True},
        conversation_id="talk",
        when_busy="steer",
        queue="q",
        priority=9,
        idempotency_key="k",
        after=("one", "two"),
        after_failure="run",
        expires_seconds=1,
        deadline_seconds=2,
        soft_time_limit_seconds=3,
        time_limit_seconds=4,
        retry=RetryPolicy(never=("code",)),
        tags=("x",),
        metadata={"m": "é"},
        webhook="https://example.org/",
    )
    state = {"status": "pending", "attempt": "0", "created_ms": "1700000000123"}
    read = task_from_fields({"spec": specification(task)} | state)
    assert read == task.model_copy(update={"created_at": read.created_at})
    assert read.input == task.input
    assert read.model_fields_set == set(Task.model_fields)


def test_a_stored_task_and_result_are_plain_values_of_their_models() -> None:
    result = TaskResult(task_id="t", output={"a": [1]}).model_dump_json()
    state = {"status": "completed", "attempt": "1", "created_ms": "1", "result": result}
    read = task_from_fields({"spec": specification(Task(agent_name="a"))} | state)
    again = Task.model_validate(read.model_dump())
    assert again == read
    assert {"status", "result"} <= STATE_FIELDS
