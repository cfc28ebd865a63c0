"""Tasks in memory and how they move: what the Lua scripts are to the Redis store.

Every method runs under its caller's lock and changes all or nothing. Knows no
waiting and no coroutine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from conversations.json_value import JsonObject
from orchestrator.errors import LeaseLost, TaskNotFound
from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.journal import Decision, StepKind, StepStart, call_key
from orchestrator.memory_counts import MemoryCounts
from orchestrator.memory_directory import InMemoryAgentDirectory, utc_now
from orchestrator.memory_dispatch import MemoryDispatch
from orchestrator.memory_entry import Entry, TaskKey, holds
from orchestrator.store import Doorbell, Lease, Started
from orchestrator.store_limits import LONGEST_RESEND
from orchestrator.task import Task, TaskFailure, TaskStatus
from orchestrator.task_record import accepted, created_event_data, resolution_event_data

_END_EVENTS: Final = {
    status: EventType(f"task.{status.value}")
    for status in TaskStatus
    if status.is_terminal
}


class MemoryLedger:
    """All tasks of one process, in order of acceptance."""

    def __init__(
        self,
        *,
        directory: InMemoryAgentDirectory,
        resend_seconds: float,
        window: int,
        most_counters: int,
        changed: Callable[[Hashable], None],
    ) -> None:
        """Tell `changed` the key of each task that changes, and whom a cancel asks."""
        self._directory = directory
        self._changed = changed
        self.close_turn: Callable[[Entry, TaskStatus], None] = _keep_nothing
        """Keeps what a turn leaves that ends; called for the next turn only."""
        self._ordinal = 0
        self._turns: dict[tuple[str, str | None], list[Entry]] = {}
        self.entries: dict[TaskKey, Entry] = {}
        self.joined: dict[TaskKey, TaskKey] = {}
        """The runs of which other tasks' messages have become parts."""
        self.counts = MemoryCounts(most_counters)
        self.tenants: set[str] = set()
        """Those that have ever had a task."""
        self.cancels: defaultdict[str, list[TaskKey]] = defaultdict(list)
        """The runs that each worker is to end and has not been told of."""
        self._watched: dict[TaskKey, datetime] = {}
        self.webhooks: dict[TaskKey, datetime] = {}
        """Undelivered webhooks and when they are due."""
        resend = timedelta(seconds=resend_seconds)
        self.later = resend * LONGEST_RESEND
        """When to look again at what nobody rings for."""
        self.dispatch = MemoryDispatch(
            self.entries, directory=directory, window=window, resend=resend
        )

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

    def answering(self, key: TaskKey) -> Entry | None:
        """The entry whose end is that of a task: the run that it joined, or its own."""
        return self.entries.get(self.joined.get(key, key))

    def held(self, lease: Lease) -> Entry:
        """Return the entry that a lease still holds.

        Raises:
            LeaseLost: the fence is old.
        """
        entry = self.entries.get((lease.tenant, lease.task_id))
        if entry is None or not holds(entry, lease):
            raise LeaseLost(lease.task_id, fence=lease.fence)
        return entry

    def surrender(self, leases: Sequence[Lease], blamed: Lease | None) -> None:
        """End leases that are held, noting who blocks their loop if that is known."""
        for lease in leases:
            entry = self.entries.get((lease.tenant, lease.task_id))
            if entry is None or not holds(entry, lease):
                continue
            entry.lease_until = self.now
            entry.surrendered = lease.fence if blamed else 0
            entry.blamed = lease.fence if lease == blamed else 0

    def bury(self, worker: str) -> int:
        """End the leases of a worker; return how many."""
        now, held = self.now, 0
        for entry in self.entries.values():
            if entry.task.worker == worker and (entry.lease_until or now) > now:
                entry.lease_until = now
                held += 1
        return held

    def next_turn(self, task: Task) -> Entry | None:
        """The first unfinished task of a task's conversation."""
        turns = self._turns.get((task.tenant, task.conversation_id))
        return turns[0] if turns else None

    def unfinished_turns(self, task: Task) -> tuple[Entry, ...]:
        """The unfinished tasks of a task's conversation, in order."""
        return tuple(self._turns.get((task.tenant, task.conversation_id), ()))

    def has_turns(self, tenant: str, conversation_id: str) -> bool:
        """Whether a conversation has unfinished turns."""
        return (tenant, conversation_id) in self._turns

    def is_next_turn(self, entry: Entry) -> bool:
        return entry.task.conversation_id is None or (
            self.next_turn(entry.task) is entry
        )

    def add(self, task: Task) -> tuple[Entry, tuple[Doorbell, ...]]:
        """Accept a task that is not there yet."""
        self._ordinal += 1
        now = self.now
        due_at = max(task.not_before or now, now)
        begun = accepted(task, created_at=now, due_at=due_at)
        entry = Entry(begun.model_copy(deep=True), self._ordinal)
        self.entries[entry.key] = entry
        self.tenants.add(task.tenant)
        if task.conversation_id is not None:
            turns = self._turns.setdefault((task.tenant, task.conversation_id), [])
            turns.append(entry)
        self.record(entry, EventType.TASK_CREATED, **created_event_data(task))
        self.record(entry, EventType.TASK_QUEUED, queue=task.queue)
        self._hold_until_ended(entry)
        return entry, self.make_due(entry, due_at)

    def _hold_until_ended(self, entry: Entry) -> None:
        tenant = entry.task.tenant
        found = [self.answering((tenant, task_id)) for task_id in entry.task.after]
        open_ = {
            first.key: first
            for first in found
            if first is not None and not first.task.status.is_terminal
        }
        for first in open_.values():
            if entry.key not in first.followers:  # by a deleted task of its id
                first.followers.append(entry.key)
        entry.held = len(open_)
        if entry.held:
            entry.set(pending_reason="waits for the end of other tasks")

    def unfollow(self, task: Task) -> None:
        """Forget what a task that is gone waited for: another may take its id."""
        key = task.tenant, task.id
        for awaited in task.after:
            first = self.answering((task.tenant, awaited))
            if first is not None and key in first.followers:
                first.followers.remove(key)

    def _wake_followers(self, ended: Entry) -> tuple[Doorbell, ...]:
        bells: list[Doorbell] = []
        for key in ended.followers:
            entry = self.entries.get(key)
            if entry is None or entry.task.status is not TaskStatus.PENDING:
                continue
            entry.held -= 1
            if not entry.held:
                entry.set(pending_reason=None)
                bells += self.make_due(entry, entry.task.due_at or self.now)
        ended.followers.clear()
        return tuple(bells)

    def watch(self, key: TaskKey, seconds: float) -> None:
        """Note that somebody follows a task's events for that long."""
        now = self.now
        self._watched = {k: until for k, until in self._watched.items() if until > now}
        self._watched[key] = now + timedelta(seconds=seconds)

    def is_watched(self, key: TaskKey) -> bool:
        until = self._watched.get(key)
        return until is not None and until > self.now

    def mark(self, entry: Entry, start: StepStart) -> Started:
        """Mark a step as begun by the present attempt, unless it is finished."""
        begun, attempt = entry.starts.get(start.key), entry.task.attempt
        is_watched = self.is_watched(entry.key)
        if start.key in entry.steps or (begun and begun.attempt == attempt):
            return Started(is_unknown=False, is_watched=is_watched)
        entry.decisions.pop(start.key, None)
        stamp = {"attempt": attempt, "started_at": self.now}
        entry.starts[start.key] = start.model_copy(update=stamp, deep=True)
        if begun and start.kind is StepKind.COMPLETION:
            entry.set(maybe_paid=entry.task.maybe_paid + 1)
        return Started(is_unknown=begun is not None, is_watched=is_watched)

    def record(self, entry: Entry, kind: EventType, **data: JsonValue) -> None:
        self.append(entry, [NewEvent(type=kind, data=data)])

    def append(self, entry: Entry, events: Sequence[NewEvent]) -> None:
        """Number and date events, and wake who waits for them."""
        now = self.now
        entry.events += [
            TaskEvent(
                sequence=sequence,
                type=event.type,
                at=now,
                attempt=entry.task.attempt,
                data=deepcopy(event.data),
            )
            for sequence, event in enumerate(events, start=len(entry.events))
        ]
        self._changed(entry.key)

    def make_due(self, entry: Entry, due_at: datetime) -> tuple[Doorbell, ...]:
        """Let a pending task be rung for: now, or later by the sweeper."""
        entry.set(due_at=due_at)
        now = self.now
        if due_at > now or entry.held or not self.is_next_turn(entry):
            entry.look_later(due_at if due_at > now else now + self.later)
            return ()
        return self.dispatch.offer(entry)

    def decide(self, entry: Entry, decision: Decision) -> tuple[Doorbell, ...]:
        """Keep a decision on an awaited call; after the last one the task may run."""
        key = decision.key
        left = tuple(c for c in entry.task.awaiting if call_key(c.call_id) != key)
        if not left:
            entry.move(TaskStatus.PENDING)
            entry.resumes = True
        entry.set(awaiting=left)
        entry.starts.pop(key, None)
        stamp = {"decided_at": self.now}
        entry.decided = decision.model_copy(deep=True)
        entry.decisions[key] = decision.model_copy(update=stamp, deep=True)
        facts = resolution_event_data(decision)
        self.record(entry, EventType.CALL_RESOLVED, **facts)
        return () if left else self.make_due(entry, self.now)

    def overdue(self, entry: Entry) -> str | None:
        """Why the task may no longer begin, and what it waited for; None if it may."""
        now, waited = self.now, entry.task.pending_reason
        waited = f" ({waited})" if waited else ""
        if entry.expires_at is not None and entry.expires_at <= now:
            return (
                f"no worker began the task within its expires limit{waited};"
                " add workers or raise expires"
            )
        if entry.deadline_at is not None and entry.deadline_at <= now:
            return (
                f"the deadline passed before the task had ended{waited}; raise deadline"
            )
        return None

    def end(
        self, entry: Entry, status: TaskStatus, data: JsonObject, **changes: object
    ) -> tuple[Doorbell, ...]:
        """End a task; return the doorbell of the turn that may run next."""
        was_next = self.is_next_turn(entry)
        data = data | _late_messages(entry)
        bells = self.leave(entry, cleared=True)
        entry.move(status, **{"finished_at": self.now, "awaiting": ()} | changes)
        self.counts.ended(entry.task)
        self.record(entry, _END_EVENTS[status], **data)
        if entry.task.webhook:
            self.webhooks[entry.key] = self.now
        if was_next and entry.task.conversation_id is not None:
            self.close_turn(entry, status)
        entry.superseded.clear()
        entry.inbox.clear()
        entry.saying = None
        self._leave_turns(entry)
        turn = self.wake_next_turn(entry) if was_next else ()
        return (*bells, *turn, *self._wake_followers(entry))

    def leave(self, entry: Entry, *, cleared: bool = False) -> tuple[Doorbell, ...]:
        """End what a task holds in its present status: a place in line, a ship."""
        self.dispatch.leave_line(entry)
        if entry.task.status is not TaskStatus.RUNNING:
            return ()
        return self.dispatch.leave_ship(entry, cleared=cleared)

    def _leave_turns(self, entry: Entry) -> None:
        conversation = entry.task.tenant, entry.task.conversation_id
        turns = self._turns.get(conversation, [])
        if entry in turns:
            turns.remove(entry)
        if not turns:
            self._turns.pop(conversation, None)

    def withdraw(self, entry: Entry) -> None:
        """Forget a pending task as if it had never been."""
        self.dispatch.leave_line(entry)
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
        worker = task.worker or ""
        self.cancels[worker].append(entry.key)
        self._changed(worker)
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
        if turn is None or turn.held or turn.task.status is not TaskStatus.PENDING:
            return ()
        if turn.task.due_at is not None and turn.task.due_at > self.now:
            return ()
        return self.dispatch.offer(turn)

    def hasten_next_turn(self, entry: Entry) -> None:
        """Let the sweeper ring for the next turn now."""
        turn = self.next_turn(entry.task)
        if turn is not None and turn.look_at is not None:
            self.dispatch.take_message(turn)
            turn.look_at = self.now

    def count_run(
        self, entry: Entry, status: TaskStatus, failure: TaskFailure | None
    ) -> None:
        self._directory.count_run(entry.task.agent_name, status, failure)


def _late_messages(entry: Entry) -> JsonObject:
    """The tasks whose messages came too late to steer a run: turns of their own."""
    pending = TaskStatus.PENDING
    late = [each.task.id for each in entry.inbox if each.task.status is pending]
    return {"not_joined": [*late]} if late else {}


def _keep_nothing(entry: Entry, status: TaskStatus) -> None:
    """No conversations: nothing to keep."""
