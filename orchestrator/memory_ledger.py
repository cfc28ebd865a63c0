"""Tasks in memory and how they move: what the Lua scripts are to the Redis store.

Every method runs under its caller's lock and changes all or nothing. Knows no
waiting and no coroutine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from conversations.json_value import JsonObject
from conversations.message import Message
from orchestrator.errors import InvalidTransition, LeaseLost, TaskNotFound
from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.journal import Step
from orchestrator.memory_directory import InMemoryAgentDirectory, utc_now
from orchestrator.store import Doorbell, Lease
from orchestrator.task import TRANSITIONS, Task, TaskFailure, TaskStatus
from orchestrator.task_record import accepted

TaskKey = tuple[str, str]

_END_EVENTS: Final = {
    status: EventType(f"task.{status.value}")
    for status in TaskStatus
    if status.is_terminal
}
_UNTIL_THE_END: Final = {"due_at": None, "pending_reason": None}


@dataclass(eq=False)
class Entry:
    """One task and what the store alone knows of it."""

    task: Task
    ordinal: int
    events: list[TaskEvent] = field(default_factory=list)
    steps: dict[str, Step] = field(default_factory=dict)
    look_at: datetime | None = None
    """While pending: when the sweeper looks at it."""
    rings: int = 0
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    """While running."""
    finished_by: int = 0
    """The fence that ended it; 0 when none did."""
    rolled_back: bool = False
    """Its turn enters no history."""
    superseded: list[Task] = field(default_factory=list)
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

    @property
    def doorbell(self) -> Doorbell:
        task = self.task
        return Doorbell(
            task.tenant, task.id, task.agent_name, task.queue, task.priority
        )

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

    def limit(self, seconds: float | None) -> datetime | None:
        created = self.task.created_at
        if seconds is None or created is None:
            return None
        return created + timedelta(seconds=seconds)

    @property
    def expires_at(self) -> datetime | None:
        """When it is too late for the first claim."""
        return None if self.task.attempt else self.limit(self.task.expires_seconds)

    @property
    def deadline_at(self) -> datetime | None:
        return self.limit(self.task.deadline_seconds)


class MemoryLedger:
    """All tasks of one process, in order of acceptance."""

    def __init__(
        self,
        *,
        directory: InMemoryAgentDirectory,
        resend_seconds: float,
        changed: Callable[[TaskKey], None],
        push_cancel: Callable[[Entry], None],
    ) -> None:
        self._directory = directory
        self._resend = timedelta(seconds=resend_seconds)
        self._changed = changed
        self.push_cancel = push_cancel
        self.close_turn: Callable[[Entry, TaskStatus], None] = _keep_nothing
        """Keeps what a turn leaves that ends; called for the next turn only."""
        self._ordinal = 0
        self._turns: dict[tuple[str, str | None], list[Entry]] = {}
        self.entries: dict[TaskKey, Entry] = {}

    @property
    def now(self) -> datetime:
        return utc_now()

    def get(self, tenant: str, task_id: str) -> Entry:
        """Return an entry.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        entry = self.entries.get((tenant, task_id))
        if entry is None:
            raise TaskNotFound(task_id)
        return entry

    def held(self, lease: Lease) -> Entry:
        """Return the entry that a lease still holds.

        Raises:
            LeaseLost: the fence is old.
        """
        entry = self.entries.get((lease.tenant, lease.task_id))
        if entry is None or not holds(entry, lease):
            raise LeaseLost(lease.task_id, fence=lease.fence)
        return entry

    def next_turn(self, task: Task) -> Entry | None:
        """The first unfinished task of a task's conversation."""
        turns = self._turns.get((task.tenant, task.conversation_id))
        return turns[0] if turns else None

    def unfinished_turns(self, task: Task) -> tuple[Entry, ...]:
        """The unfinished tasks of a task's conversation, in order."""
        return tuple(self._turns.get((task.tenant, task.conversation_id), ()))

    def is_next_turn(self, entry: Entry) -> bool:
        return entry.task.conversation_id is None or (
            self.next_turn(entry.task) is entry
        )

    def add(self, task: Task) -> Entry:
        """Accept a task that is not there yet."""
        self._ordinal += 1
        now = self.now
        due_at = max(task.not_before or now, now)
        entry = Entry(accepted(task, created_at=now, due_at=due_at), self._ordinal)
        self.entries[entry.key] = entry
        if task.conversation_id is not None:
            turns = self._turns.setdefault((task.tenant, task.conversation_id), [])
            turns.append(entry)
        self.record(entry, EventType.TASK_CREATED, agent_name=task.agent_name)
        self.record(entry, EventType.TASK_QUEUED, queue=task.queue)
        self.make_due(entry, due_at)
        return entry

    def record(self, entry: Entry, kind: EventType, **data: object) -> None:
        self.append(entry, [NewEvent.model_validate({"type": kind, "data": data})])

    def append(self, entry: Entry, events: Sequence[NewEvent]) -> None:
        """Number and date events, and wake who waits for them."""
        now = self.now
        entry.events += [
            TaskEvent(
                sequence=sequence,
                type=event.type,
                at=now,
                attempt=entry.task.attempt,
                data=event.model_copy(deep=True).data,
            )
            for sequence, event in enumerate(events, start=len(entry.events))
        ]
        self._changed(entry.key)

    def make_due(self, entry: Entry, due_at: datetime) -> tuple[Doorbell, ...]:
        """Let a pending task be rung: by the caller now, or later by the sweeper."""
        entry.set(due_at=due_at)
        if due_at > self.now:
            entry.rings = 0
            self.look_at(entry, due_at)
            return ()
        entry.rings = 1
        self.look_at(entry, self.now + self._resend)
        return (entry.doorbell,)

    def look_at(self, entry: Entry, instant: datetime) -> None:
        """Let the sweeper look then, or earlier when a limit passes."""
        instants = (instant, entry.expires_at, entry.deadline_at)
        entry.look_at = min(each for each in instants if each is not None)

    def overdue(self, entry: Entry) -> str | None:
        """Why the task may no longer begin, if so."""
        now = self.now
        if entry.expires_at is not None and entry.expires_at <= now:
            return (
                "no worker began the task within its expires limit;"
                " add workers or raise expires"
            )
        if entry.deadline_at is not None and entry.deadline_at <= now:
            return "the deadline passed before the task had ended; raise deadline"
        return None

    def end(
        self, entry: Entry, status: TaskStatus, data: JsonObject, **changes: object
    ) -> tuple[Doorbell, ...]:
        """End a task; return the doorbell of the turn that may run next."""
        was_next = self.is_next_turn(entry)
        entry.move(status, **{"finished_at": self.now} | changes)
        self.record(entry, _END_EVENTS[status], **data)
        if was_next and entry.task.conversation_id is not None:
            self.close_turn(entry, status)
        entry.superseded.clear()
        entry.inbox.clear()
        self._leave_turns(entry)
        return self.wake_next_turn(entry) if was_next else ()

    def _leave_turns(self, entry: Entry) -> None:
        conversation = entry.task.tenant, entry.task.conversation_id
        turns = self._turns.get(conversation, [])
        if entry in turns:
            turns.remove(entry)
        if not turns:
            self._turns.pop(conversation, None)

    def withdraw(self, entry: Entry) -> None:
        """Forget a pending task as if it had never been."""
        self._leave_turns(entry)
        del self.entries[entry.key]

    def request_cancel(self, entry: Entry) -> tuple[Doorbell, ...]:
        """Cancel a task that does not run; show the request on one that does."""
        task = entry.task
        if task.status.is_terminal or task.cancel_requested_at is not None:
            return ()
        entry.set(cancel_requested_at=self.now)
        if task.status is not TaskStatus.RUNNING:
            data: JsonObject = {"status": "cancelled"}
            return self.end(entry, TaskStatus.CANCELLED, data)
        self.record(entry, EventType.CANCEL_REQUESTED)
        self.push_cancel(entry)
        return ()

    def end_with_failure(
        self, entry: Entry, status: TaskStatus, code: str, message: str
    ) -> tuple[Doorbell, ...]:
        """End a task for a reason of the store's own."""
        failure = TaskFailure(code=code, message=message, attempt=entry.task.attempt)
        data: JsonObject = {"status": status.value, "code": code, "message": message}
        return self.end(entry, status, data, failure=failure)

    def wake_next_turn(self, entry: Entry) -> tuple[Doorbell, ...]:
        turn = self.next_turn(entry.task)
        if turn is None or turn.task.status is not TaskStatus.PENDING:
            return ()
        if turn.task.due_at is not None and turn.task.due_at > self.now:
            return ()
        turn.look_at = min(turn.look_at or self.now, self.now + self._resend)
        return (turn.doorbell,)

    def hasten_next_turn(self, entry: Entry) -> None:
        """Let the sweeper ring for the next turn now."""
        turn = self.next_turn(entry.task)
        if turn is not None and turn.look_at is not None:
            turn.look_at = self.now

    def count_run(
        self, entry: Entry, status: TaskStatus, failure: TaskFailure | None
    ) -> None:
        self._directory.count_run(entry.task.agent_name, status, failure)


def _keep_nothing(entry: Entry, status: TaskStatus) -> None:
    """No conversations: nothing to keep."""


def holds(entry: Entry, lease: Lease) -> bool:
    """Tell whether a lease is the entry's present one."""
    task = entry.task
    return task.status is TaskStatus.RUNNING and task.attempt == lease.fence
