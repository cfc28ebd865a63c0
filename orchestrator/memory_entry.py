"""One task in memory and what the store alone knows of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from conversations.conversation import ConversationConfig
from conversations.message import Message
from orchestrator.errors import InvalidTransition
from orchestrator.events import TaskEvent
from orchestrator.journal import Decision, Journal, Step, StepStart, Unfinished
from orchestrator.store import Doorbell, Lease
from orchestrator.task import TRANSITIONS, Task, TaskStatus

TaskKey = tuple[str, str]

_REMEMBERED_BATCHES: Final = 32
"""As many as lua/append_events.lua."""
_RESUMES: Final = 3
_UNTIL_THE_END: Final = {"due_at": None, "pending_reason": None}


@dataclass(eq=False)
class Entry:
    """One task and what the store alone knows of it."""

    task: Task
    ordinal: int
    events: list[TaskEvent] = field(default_factory=list)
    holds_deltas: bool = True
    """Whether its log may hold the pieces that a text came in."""
    steps: dict[str, Step] = field(default_factory=dict)
    starts: dict[str, StepStart] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    decided: Decision | None = None
    """The last decision since the run has asked; also when it was acted on."""
    look_at: datetime | None = None
    """While pending: when the sweeper looks at it."""
    rung_at: datetime | None = None
    """When its message was last sent."""
    held: int = 0
    """Tasks that must end first."""
    followers: list[TaskKey] = field(default_factory=list)
    """Tasks that wait for this one's end."""
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    """While running."""
    surrendered: int = 0
    """The fence whose lease was given up with the blocker known."""
    blamed: int = 0
    """The fence that blocked its loop."""
    resumes: bool = False
    """It had begun and did not fail: it goes on before others begin."""
    company: int = 0
    """A suspect whose process died again: how many such may be aboard with it."""
    finished_by: int = 0
    """The fence that ended it; 0 when none did."""
    batches: deque[str] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED_BATCHES)
    )
    """Names of the batches of events that were added last."""
    saying: Unfinished | None = None
    """What its newest completion has said, before that is a step."""
    limits: ConversationConfig | None = None
    """Of its conversation, should that expire before the turn ends."""
    rolled_back: bool = False
    """Its turn enters no history."""
    asked: tuple[Message, ...] = ()
    """What the user says with it, as it may be stored, if it is a turn."""
    superseded: list[Entry] = field(default_factory=list)
    """Later turns that ended before this one; kept after it."""
    inbox: list[Entry] = field(default_factory=list)
    """Tasks that want to join this run."""
    steers: Entry | None = None
    """The run that it wants to join."""
    steered: list[Message] = field(default_factory=list)
    """What users said to this run after its beginning."""

    @property
    def key(self) -> TaskKey:
        return self.task.tenant, self.task.id

    def copy(self) -> Task:
        """What is handed out can be changed without harm to what is stored."""
        return self.task.model_copy(deep=True)

    @property
    def journal(self) -> Journal:
        """A copy of all steps."""
        return Journal(
            steps=tuple(step.model_copy(deep=True) for step in self.steps.values()),
            starts=tuple(each.model_copy(deep=True) for each in self.starts.values()),
            decisions=tuple(
                each.model_copy(deep=True) for each in self.decisions.values()
            ),
        )

    @property
    def doorbell(self) -> Doorbell:
        task = self.task
        return Doorbell(
            task.tenant,
            task.id,
            task.agent_name,
            task.queue,
            self.urgency,
            task.traceparent,
        )

    @property
    def urgency(self) -> int:
        """Its priority, or more: see lua/dispatch.lua."""
        return min(9, self.task.priority + (_RESUMES if self.resumes else 0))

    def drop_deltas(self) -> None:
        """Drop the pieces of an ended run's texts; the rest keeps its numbers."""
        self.events = [each for each in self.events if not each.type.is_delta]
        self.holds_deltas = False

    def set(self, **changes: object) -> None:
        self.task = self.task.model_copy(update=changes)

    def move(self, wanted: TaskStatus, **changes: object) -> None:
        """Change the status as the table of transitions allows.

        Raises:
            InvalidTransition: it does not; nothing has changed.
        """
        status = self.task.status
        if wanted not in TRANSITIONS[status]:
            raise InvalidTransition(self.task.id, status=status, wanted=wanted)
        self.look_at = self.lease_until = None
        self.set(status=wanted, **_UNTIL_THE_END, **changes)

    def look_later(self, instant: datetime) -> None:
        """Let the sweeper look then, or earlier when a limit passes."""
        instants = (instant, self.expires_at, self.deadline_at)
        self.look_at = min(each for each in instants if each is not None)

    def limit(self, seconds: float | None) -> datetime | None:
        created = self.task.created_at
        if seconds is None or created is None:
            return None
        return created + timedelta(seconds=seconds)

    @property
    def expires_at(self) -> datetime | None:
        """When it is too late for the first claim."""
        at = None if self.task.attempt else self.limit(self.task.expires_seconds)
        created, earliest = self.task.created_at, self.task.not_before
        if at is None or created is None or earliest is None:
            return at
        return at + max(timedelta(0), earliest - created)

    @property
    def deadline_at(self) -> datetime | None:
        return self.limit(self.task.deadline_seconds)

    @property
    def next_limit(self) -> datetime | None:
        """When a waiting task is looked at: its deadline, or an awaited call's."""
        limits = (self.deadline_at, *(call.expires_at for call in self.task.awaiting))
        return min((each for each in limits if each is not None), default=None)

    def deadline_left_seconds(self, now: datetime) -> float | None:
        """The seconds to the deadline, None without one."""
        at = self.deadline_at
        return None if at is None else max(0.0, (at - now).total_seconds())


def holds(entry: Entry, lease: Lease) -> bool:
    """Tell whether a lease is the entry's present one."""
    task = entry.task
    return task.status is TaskStatus.RUNNING and task.attempt == lease.fence
