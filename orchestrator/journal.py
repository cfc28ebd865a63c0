"""The journal of a run: its steps, by key. Frozen values, no I/O.

A step that may harm or cost when repeated gets a start mark before it begins; its end
replaces the mark. A mark without an end means that nobody knows what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from conversations.json_value import Json, JsonObject, Text
from conversations.message import Message
from orchestrator.task import Usage


class StepKind(StrEnum):
    """What a step did."""

    COMPLETION = "completion"
    TOOL_CALL = "tool_call"
    MESSAGES = "messages"
    CUSTOM = "step"


class Step(BaseModel):
    """One finished step; a resumed run reads it instead of doing it again."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    key: Text = Field(min_length=1, max_length=512)
    """Names the step within the run; the same on every attempt."""
    kind: StepKind
    """What it did."""
    name: Text = ""
    """The model that answered, the tool called, or the step's own name."""
    outcome: Json = None
    """What it gave, in the form its kind defines."""
    said: Text | None = None
    """Its part of the answer; kept in the conversation when the run has no other."""
    usage: Usage = Usage()
    """Tokens it took."""
    cost_micros: int = Field(default=0, ge=0)
    """Millionths of money that it took, by the prices of its endpoints."""
    waited_seconds: float = Field(default=0.0, ge=0)
    """How long it waited at the gates before its models."""
    error: Text | None = None
    """The stable code of what went wrong; None when it succeeded."""
    seconds: float = Field(default=0.0, ge=0)
    """How long it took."""
    attempt: int = Field(default=0, ge=0)
    """The attempt that did it."""
    shown_as: Text | None = None
    """The id of its message in the event log, where a broken try has taken its own."""
    recorded_at: datetime | None = None
    """When it was recorded, by the store's clock; None before that."""


class StepStart(BaseModel):
    """The mark of a step that has begun."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    key: Text = Field(min_length=1, max_length=512)
    """The step's key."""
    kind: StepKind
    """What it does."""
    facts: JsonObject = Field(default_factory=dict)
    """What is done, in the form its kind defines."""
    attempt: int = Field(default=0, ge=0)
    """The attempt that began it."""
    started_at: datetime | None = None
    """When it began, by the store's clock; None before that."""


class Unfinished(NamedTuple):
    """What a completion has said before it is a step."""

    key: str
    """The key that its step will have."""
    text: str


class Action(StrEnum):
    """What to do about a step that a person was asked about."""

    DONE = "done"
    """It was done; go on with the output given."""
    RUN = "run"
    """It was not done; do it."""
    REFUSE = "refuse"
    """It was not done and shall not be; the run goes on without it."""
    FAIL = "fail"
    """End the task."""


MAY_BE_DECIDED: Final[Mapping[str, tuple[Action, ...]]] = {
    "unknown_outcome": (Action.DONE, Action.RUN, Action.FAIL),
    "approval": (Action.RUN, Action.REFUSE, Action.DONE, Action.FAIL),
    "budget_spent": (Action.RUN, Action.DONE, Action.FAIL),
}
"""What a person is offered to decide, by why it is asked (`AwaitedCall.reason`)."""


class Decision(BaseModel):
    """What a person decided about a step; the next attempt obeys it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    key: Text = Field(min_length=1, max_length=512)
    """The step's key."""
    action: Action
    """What to do."""
    output: Json = None
    """With `done`: what the step gave."""
    note: Text = Field(default="", max_length=1000)
    """Why, for those who read the task later."""
    decided_at: datetime | None = None
    """When it was decided, by the store's clock; None before that."""


class Journal(NamedTuple):
    """All that is known of a run's steps."""

    steps: tuple[Step, ...] = ()
    """Finished, in order of recording."""
    starts: tuple[StepStart, ...] = ()
    """Begun and neither finished nor decided on."""
    decisions: tuple[Decision, ...] = ()
    """Decided on by a person and not acted on yet."""
    read_at: datetime | None = None
    """When it was read, by the store's clock."""


EMPTY_JOURNAL: Final = Journal()


def summary_of(outcome: JsonValue) -> Message | None:
    """Return the message that the summary's step has made."""
    return None if outcome is None else Message.model_validate(outcome)


def call_key(call_id: str) -> str:
    """The key of a tool call's step."""
    return f"tool:{call_id}"


APPROVAL_PREFIX: Final = "approval:"
"""Begins the ids of awaited calls that have not begun; no tool call's id begins so."""
SUMMARY_KEY: Final = "summary"
"""The key of the step that made a summary of the history before the run: its outcome is
the message, or null where the model gave none."""
HANDOVER_KEY: Final = "handover"
"""Begins the key of the step that names the calls which the client is to make."""
ANSWER_KEY: Final = "answer"
"""The key of the step that holds an answer which no completion has said."""
ANSWER_ITEM: Final = "msg-answer"
"""The id of that answer's item in the event log."""
