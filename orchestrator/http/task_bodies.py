"""What the native API takes and gives: shapes of bodies, with examples."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
)

from conversations.conversation import is_hidden_id
from conversations.json_value import Identifier, JsonObject
from orchestrator.events import TaskEvent
from orchestrator.http.auth import Caller
from orchestrator.http.submitter import shown
from orchestrator.http_settings import Scope
from orchestrator.journal import Action, Step
from orchestrator.request import SubmitRequest
from orchestrator.schedule import Missed, Schedule
from orchestrator.task import Task, TaskResult, TaskStatus

_NOT_TAKEN = {
    "tenant": "not taken here; the API key says whose task it is, so leave it out",
    "idempotency_key": "not taken here; send the header Idempotency-Key",
}


class SubmitBody(SubmitRequest):
    """A request to run an agent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agent": "researcher",
                    "input": {"query": "How is a lost task found?"},
                    "tags": ["docs"],
                }
            ]
        }
    )

    tenant: None = Field(default=None, exclude=True)
    """Not taken: the API key says whose task it is."""
    idempotency_key: None = Field(default=None, exclude=True)
    """Not taken: send the header `Idempotency-Key`."""

    @field_validator("tenant", "idempotency_key", mode="before")
    @classmethod
    def _is_not_taken(cls, given: object, info: ValidationInfo) -> None:
        if given is not None:
            raise ValueError(_NOT_TAKEN[info.field_name or ""])

    @field_validator("conversation_id")
    @classmethod
    def _is_the_clients(cls, conversation_id: str | None) -> str | None:
        if is_hidden_id(conversation_id):
            raise ValueError("ids that begin with hidden- are the service's own")
        return conversation_id

    def fields(self) -> dict[str, Any]:
        """Return what was given, for `submit`."""
        given = self.model_fields_set - _NOT_TAKEN.keys()
        return {name: getattr(self, name) for name in given}


class TaskBody(BaseModel):
    """A task as it stands. See docs/http.md for the fields of `task`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Names it within its tenant."""
    agent: str
    """The agent that runs it."""
    status: str
    """pending, running, waiting, completed, failed, cancelled or timed_out."""
    input: JsonObject
    """What it works on."""
    conversation_id: str | None
    """The conversation that it continues."""
    tags: list[str]
    """Words to filter by."""
    metadata: JsonObject
    """The submitter's facts."""
    priority: int
    """0 to 9; 9 is most urgent."""
    attempt: int
    """Claims so far."""
    created_at: datetime | None
    """When it was accepted."""
    started_at: datetime | None
    """When it was first claimed."""
    finished_at: datetime | None
    """When it ended."""
    cancel_requested_at: datetime | None
    """When its end was asked for."""
    pending_reason: str | None
    """While pending or waiting: why it does not run."""
    awaiting: list[JsonObject]
    """While waiting: the calls that a decision is needed on."""
    result: TaskResult | None
    """The answer, once completed."""
    failure: JsonObject | None
    """Why it failed, or the last attempt's error while it is retried."""
    traceparent: str | None
    """The W3C trace context of its submit."""
    warning: str | None = None
    """What stands in its way at acceptance, if anything."""

    @classmethod
    def of(cls, task: Task, *, warning: str | None = None) -> TaskBody:
        return cls(
            id=task.id,
            agent=task.agent_name,
            status=task.status.value,
            input=task.input,
            conversation_id=task.conversation_id,
            tags=list(task.tags),
            metadata=shown(task.metadata),
            priority=task.priority,
            attempt=task.attempt,
            created_at=task.created_at,
            started_at=task.started_at,
            finished_at=task.finished_at,
            cancel_requested_at=task.cancel_requested_at,
            pending_reason=task.pending_reason,
            awaiting=[call.model_dump(mode="json") for call in task.awaiting],
            result=task.result,
            failure=task.failure.model_dump(mode="json") if task.failure else None,
            traceparent=task.traceparent,
            warning=warning,
        )

    @classmethod
    def told(
        cls,
        task: Task,
        caller: Caller,
        *,
        own: bool = False,
        warning: str | None = None,
    ) -> TaskBody:
        """What a caller is told of a task that it did something with.

        Without the scope `read` no more of it than how it stands, unless it is its own.
        """
        body = cls.of(task, warning=warning)
        if own or caller.may(Scope.READ):
            return body
        hidden: dict[str, Any] = {"input": {}, "metadata": {}, "tags": []}
        hidden |= {"awaiting": [], "result": None, "failure": None}
        hidden |= {"conversation_id": None, "traceparent": None}
        return body.model_copy(update=hidden)


class ListQuery(BaseModel):
    """Which tasks to list."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    status: TaskStatus | None = None
    """Only of this status."""
    agent: str | None = Field(default=None, max_length=64)
    """Only of this agent."""
    conversation_id: str | None = Field(default=None, max_length=64)
    """Only of this conversation."""
    tag: str | None = Field(default=None, max_length=64)
    """Only with this tag."""
    created_after: AwareDatetime | None = None
    """Only those accepted then or later."""
    created_before: AwareDatetime | None = None
    """Only those accepted earlier."""
    limit: int = Field(default=50, ge=1, le=200)
    """How many at most."""
    cursor: str | None = Field(default=None, max_length=256)
    """`next_cursor` of the page before."""


class TaskList(BaseModel):
    """Some tasks, newest first."""

    tasks: list[TaskBody]
    next_cursor: str | None
    """Where the next page starts; null at the end."""


class EventList(BaseModel):
    """Some events of a task, oldest first."""

    events: list[TaskEvent]


class StepList(BaseModel):
    """The finished steps of a task."""

    steps: list[Step]


class DecisionBody(BaseModel):
    """What a person decided about a call that a waiting task shows."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"call_id": "1:call_a", "decision": "done", "output": "sent"}]
        },
    )

    call_id: str = Field(min_length=1, max_length=512)
    decision: Action
    output: JsonValue = None
    note: str = Field(default="", max_length=1000)


class ScheduleBody(BaseModel):
    """A task to submit at each tick of a cron expression."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "cron": "0 7 * * 1-5",
                    "time_zone": "Europe/Berlin",
                    "task": {"agent": "summarizer", "input": {"text": "…"}},
                }
            ]
        },
    )

    cron: str = Field(min_length=1, max_length=256)
    time_zone: str = Field(default="UTC", max_length=64)
    missed: Missed = "one"
    task: SubmitBody


class ScheduleInfo(BaseModel):
    """A schedule and its next tick."""

    id: Identifier
    cron: str
    time_zone: str
    missed: str
    agent: str
    next_at: datetime | None

    @classmethod
    def of(cls, schedule: Schedule) -> ScheduleInfo:
        return cls(
            id=schedule.id,
            cron=schedule.cron,
            time_zone=schedule.time_zone,
            missed=schedule.missed,
            agent=schedule.task.agent_name,
            next_at=schedule.next_at,
        )


class ScheduleList(BaseModel):
    """Every schedule of the tenant."""

    schedules: list[ScheduleInfo]
