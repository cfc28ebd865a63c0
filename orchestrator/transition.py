"""What a task store's transitions take and give: leases, claims, endings, doorbells.

Values only; the rules are in `orchestrator.store`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from conversations.conversation import ConversationConfig
from conversations.message import Message
from conversations.store import WindowRead
from orchestrator.events import NewEvent
from orchestrator.journal import Decision, Step, StepStart
from orchestrator.task import Task, TaskFailure, TaskResult, TaskStatus


class Doorbell(NamedTuple):
    """What a Celery message needs to say; the record says the rest."""

    tenant: str
    task_id: str
    agent_name: str
    queue: str
    priority: int
    traceparent: str | None = None
    """The trace that the task belongs to."""


class Creation(NamedTuple):
    """The answer to a submit."""

    task: Task
    created: bool
    """False when an equal request had been accepted before."""
    doorbells: tuple[Doorbell, ...]


class Lease(NamedTuple):
    """The right to write a run; named by every write of it."""

    tenant: str
    task_id: str
    fence: int
    worker: str
    token: str = ""
    """Of the claim. A store whose history went back gives a fence out again."""

    @property
    def right(self) -> str:
        """How the scripts know it: its fence and token."""
        return f"{self.fence} {self.token}"


class RefusalReason(StrEnum):
    """Why a claim was refused; none of them is an error."""

    UNKNOWN = "unknown"
    ENDED = "ended"
    LEASED = "leased"
    NOT_DUE = "not_due"
    NOT_NEXT_TURN = "not_next_turn"
    UNSERVED = "unserved"
    UNKNOWN_SCHEMA = "unknown_schema"
    WAITING = "waiting"
    EXPIRED = "expired"
    SUSPECT = "suspect"


class Claim(NamedTuple):
    """A run begins: its task, lease and the steps that are already done."""

    task: Task
    lease: Lease
    steps: tuple[Step, ...]
    starts: tuple[StepStart, ...] = ()
    """Steps that an earlier attempt began and whose outcome is unknown."""
    decisions: tuple[Decision, ...] = ()
    """What was decided about steps meanwhile."""
    read_at: datetime | None = None
    """When the claim was made, by the store's clock."""
    doorbells: tuple[Doorbell, ...] = ()
    """Of tasks in line that there is room for now."""
    deadline_left_seconds: float | None = None
    """From the claim to the task's deadline, by the store's clock."""
    has_mail: bool = True
    """Whether messages to the run wait, to be taken before its first completion."""
    window: WindowRead | None = None
    """What the run may see of its conversation; None where that was not read."""
    begins_conversation: bool = False
    """Whether its conversation was not there."""
    begun: Started | None = None
    """The run's first step, where it was marked as begun with the claim."""


class Started(NamedTuple):
    """A step as marked."""

    is_unknown: bool
    """Whether an earlier attempt had begun it and nobody knows what came of it."""
    is_watched: bool
    """Whether somebody follows the run now."""


class Recorded(NamedTuple):
    """A step is stored."""

    earlier: Step | None
    """What stands under its key instead, where another was recorded there before."""
    doorbells: tuple[Doorbell, ...]
    """Of suspects that may run now that this run is none any more."""
    has_mail: bool
    """Whether messages to the run waited then, to be taken before a completion."""
    then: Started | None = None
    """The completion that follows at once, as marked."""


class LeaseState(StrEnum):
    """What a renewal says of a lease."""

    HELD = "held"
    LOST = "lost"
    CANCEL_REQUESTED = "cancel_requested"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Messages that enter the task's conversation with its end."""

    messages: tuple[Message, ...]
    config: ConversationConfig
    """Limits of a conversation that this turn creates."""
    conversation_id: str | None = None
    """The task's conversation; None has the store look it up."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended; exactly one of result and failure, or neither if cancelled."""

    status: TaskStatus
    result: TaskResult | None = None
    failure: TaskFailure | None = None
    turn: Turn | None = None


class FirstStep(NamedTuple):
    """With which the runs of some agents begin, as soon as they are claimed."""

    start: StepStart
    agents: Collection[str]


class LastStep(NamedTuple):
    """A finished step that is recorded with its run's end."""

    step: Step
    events: tuple[NewEvent, ...]


class TaskEnd(NamedTuple):
    """How a task ended, for those that wait for it."""

    status: TaskStatus
    result: TaskResult | None
    last_sequence: int
    """Of its events so far."""


class Cancellation(NamedTuple):
    """The answer to a cancel: the task as it now stands."""

    task: Task
    doorbells: tuple[Doorbell, ...]


class Wakening(NamedTuple):
    """The answer to a decision: the task as it now stands."""

    task: Task
    doorbells: tuple[Doorbell, ...]


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """What one sweep did."""

    doorbells: tuple[Doorbell, ...] = ()
    recovered: int = 0
    """Expired leases whose tasks are pending again."""
    ended: int = 0
    """Tasks ended: crash loops, queue-wait limits, deadlines, unconfirmed cancels."""
    rung_again: int = 0
    """Pending tasks whose message had not led to a claim in time."""
    more: bool = False
    """As much of a kind was overdue as one sweep does, and was to do: more may be."""
    went_back: bool = False
    """The store has forgotten what this process saw: an old file, a late replica."""
    alarms: tuple[str, ...] = ()
    """What makes the store unfit for tasks since it was last looked at."""
