"""The event log of a task: one numbered list that every viewer reads.

Types have the granularity of the Responses API's stream, so that a pure table maps
them one to one (`openai-surface` section B3); the types under "Celeriac's own" have no
counterpart there and are skipped by the facade.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from conversations.json_value import JsonObject


class EventType(StrEnum):
    """What happened."""

    TASK_CREATED = "task.created"
    TASK_QUEUED = "task.queued"
    TASK_STARTED = "task.started"
    ITEM_ADDED = "item.added"
    PART_ADDED = "part.added"
    TEXT_DELTA = "text.delta"
    TEXT_DONE = "text.done"
    PART_DONE = "part.done"
    ITEM_DONE = "item.done"
    ARGUMENTS_DELTA = "arguments.delta"
    ARGUMENTS_DONE = "arguments.done"
    TOOL_CALL_STARTED = "tool_call.started"
    TOOL_CALL_COMPLETED = "tool_call.completed"
    TOOL_CALL_FAILED = "tool_call.failed"
    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"
    TASK_CANCELLED = "task.cancelled"
    TASK_TIMED_OUT = "task.timed_out"

    # Celeriac's own
    TASK_RELEASED = "task.released"
    TASK_STEERED = "task.steered"
    TASK_WAITING = "task.waiting"
    CALL_UNKNOWN = "tool_call.unknown"
    CALL_RESOLVED = "tool_call.resolved"
    CANCEL_REQUESTED = "task.cancel_requested"
    COMPLETION_RECORDED = "completion.recorded"
    STEP_RECORDED = "step.recorded"
    PROGRESS = "task.progress"

    @property
    def is_delta(self) -> bool:
        """True for a piece of a text that a later event holds whole."""
        return self in (EventType.TEXT_DELTA, EventType.ARGUMENTS_DELTA)

    @property
    def is_end(self) -> bool:
        """True for the last event of a task."""
        return self in END_EVENTS


END_EVENTS = frozenset(
    {
        EventType.TASK_COMPLETED,
        EventType.TASK_FAILED,
        EventType.TASK_CANCELLED,
        EventType.TASK_TIMED_OUT,
    }
)


class NewEvent(NamedTuple):
    """An event before the store gives it its number and instant.

    A run makes dozens, of values that were checked where they came from; whoever makes
    one of others checks that they are JSON.
    """

    type: EventType
    data: JsonObject


class TaskEvent(BaseModel):
    """One entry of a task's event log."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    sequence: int = Field(ge=0)
    """Its number, from 0, strictly rising; the stream id is `0-<sequence + 1>`."""
    type: EventType
    """What happened."""
    at: datetime
    """When, by the store's clock."""
    attempt: int = Field(default=0, ge=0)
    """The attempt that wrote it; 0 before the first claim."""
    data: JsonObject = Field(default_factory=dict)
    """Facts, by type; see docs/events.md."""
