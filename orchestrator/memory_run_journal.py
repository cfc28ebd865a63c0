"""The half of the in-memory task store that keeps steps, marks and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from conversations.json_value import JsonObject
from conversations.redaction import Redact
from orchestrator.budget import Spent
from orchestrator.dues import Admitted, Dues, Needs
from orchestrator.events import EventType, NewEvent
from orchestrator.gate import Wait
from orchestrator.journal import (
    Decision,
    Step,
    StepStart,
    Unfinished,
    call_key,
)
from orchestrator.journal_entries import kept_unfinished, redacted_step
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_entry import Entry
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.memory_turns import MemoryTurns
from orchestrator.metrics import step_counts
from orchestrator.store import Doorbell, Lease, Recorded, Started, Wakening
from orchestrator.task import AwaitedCall, TaskStatus
from orchestrator.task_record import (
    decided_too_late,
    not_awaited,
    parking_event_data,
    parking_reason,
    unknown_outcomes,
)


class MemoryRunJournal:
    """Journals, parks and wakes runs."""

    def __init__(
        self,
        ledger: MemoryLedger,
        *,
        turns: MemoryTurns,
        redact: Redact | None,
        toll: InMemoryToll | None,
    ) -> None:
        super().__init__()
        self._toll = toll or InMemoryToll()
        self._ledger = ledger
        self._turns = turns
        self._lock: AbstractContextManager[object] = turns.lock
        self._redact = redact

    async def record_step(
        self,
        lease: Lease,
        step: Step,
        events: Sequence[NewEvent] = (),
        *,
        dues: Dues | None = None,
        then: StepStart | None = None,
    ) -> Recorded:
        if dues is not None:
            await self._toll.pay(dues)
        with self._lock:
            entry = self._ledger.held(lease)
            kept = redacted_step(step, self._redact)
            stored = self._write(entry, kept, events)
            bells = self._ledger.dispatch.leave_ship(entry, cleared=True)
            earlier = _earlier(stored, kept, attempt=lease.fence)
            has_mail = self._turns.has_mail(entry)
            begun = self._ledger.mark(entry, then) if then is not None else None
            return Recorded(earlier, bells, has_mail, begun)

    def _write(
        self, entry: Entry, step: Step, events: Sequence[NewEvent]
    ) -> Step | None:
        """Keep a step and its events, unless one of its key is there; return that."""
        stored = entry.steps.get(step.key)
        if stored is not None:
            return stored
        stamp = {"attempt": entry.task.attempt, "recorded_at": self._ledger.now}
        entry.starts.pop(step.key, None)
        entry.decisions.pop(step.key, None)
        if entry.saying and entry.saying.key == step.key:
            entry.saying = None
        entry.steps[step.key] = step.model_copy(update=stamp, deep=True)
        self._ledger.counts.add(entry.task.tenant, step_counts(step))
        self._ledger.append(entry, events)
        return None

    async def take_messages(self, lease: Lease, key: str) -> Step | None:
        with self._lock:
            step = self._turns.take(self._ledger.held(lease), key)
            return step.model_copy(deep=True) if step else None

    async def append_events(
        self,
        lease: Lease,
        events: Sequence[NewEvent],
        *,
        batch: str | None = None,
        unfinished: Unfinished | None = None,
    ) -> None:
        with self._lock:
            entry = self._ledger.held(lease)
            if batch is not None:
                if batch in entry.batches:
                    return
                entry.batches.append(batch)
            self._ledger.append(entry, events)
            if unfinished and unfinished.key not in entry.steps:
                text = kept_unfinished(unfinished.text, self._redact)
                entry.saying = Unfinished(unfinished.key, text)

    async def start_step(self, lease: Lease, start: StepStart) -> Started:
        with self._lock:
            return self._ledger.mark(self._ledger.held(lease), start)

    async def admit_step(
        self, lease: Lease, start: StepStart, needs: Needs
    ) -> tuple[Admitted, Started] | Wait | Spent:
        with self._lock:
            self._ledger.held(lease)
        answer = await self._toll.admit(needs)
        if not isinstance(answer, Admitted):
            return answer
        return answer, await self.start_step(lease, start)

    async def drop_start(self, lease: Lease, key: str) -> None:
        with self._lock:
            entry = self._ledger.held(lease)
            begun = entry.starts.get(key)
            if begun and begun.attempt == lease.fence:
                del entry.starts[key]

    async def steps(
        self, tenant: str, task_id: str, *, keys: Sequence[str] | None = None
    ) -> tuple[Step, ...]:
        with self._lock:
            steps = self._ledger.get(tenant, task_id).journal.steps
        return tuple(step for step in steps if not keys or step.key in keys)

    async def park(
        self, lease: Lease, calls: Sequence[AwaitedCall], *, running_seconds: float
    ) -> tuple[Doorbell, ...]:
        with self._lock:
            entry, ledger = self._ledger.held(lease), self._ledger
            task = entry.task
            seconds = task.running_seconds + running_seconds
            if task.cancel_requested_at is not None:
                data: JsonObject = {"status": "cancelled"}
                return ledger.end(
                    entry, TaskStatus.CANCELLED, data, running_seconds=seconds
                )
            bells = ledger.leave(entry)
            entry.decided = None
            ledger.counts.released(task, "decision")
            entry.move(
                TaskStatus.WAITING,
                running_seconds=seconds,
                unknown_outcomes=task.unknown_outcomes + unknown_outcomes(calls),
            )
            awaiting = _in_order(calls, ledger.now)
            entry.set(pending_reason=parking_reason(calls), awaiting=awaiting)
            entry.look_at = entry.next_limit
            ledger.record(entry, EventType.TASK_WAITING, **parking_event_data(calls))
            return bells

    async def resolve(self, tenant: str, task_id: str, decision: Decision) -> Wakening:
        with self._lock:
            entry, ledger = self._ledger.get(tenant, task_id), self._ledger
            if not _awaits(entry, decision):
                if not _is_kept(entry, decision):
                    raise not_awaited(entry.task)
                pending = entry.task.status is TaskStatus.PENDING
                return Wakening(entry.copy(), (entry.doorbell,) if pending else ())
            if _is_late(entry, decision, ledger.now):
                raise decided_too_late(entry.task)
            bells = ledger.decide(entry, decision)
            return Wakening(entry.copy(), bells)


def _awaits(entry: Entry, decision: Decision) -> bool:
    keys = {call_key(call.call_id) for call in entry.task.awaiting}
    return entry.task.status is TaskStatus.WAITING and decision.key in keys


def _is_late(entry: Entry, decision: Decision, now: datetime) -> bool:
    return any(
        call_key(call.call_id) == decision.key
        and call.expires_at is not None
        and call.expires_at <= now
        for call in entry.task.awaiting
    )


def _is_kept(entry: Entry, decision: Decision) -> bool:
    kept = entry.decisions.get(decision.key)
    undated = kept and kept.model_copy(update={"decided_at": None})
    return decision in (undated, entry.decided)


def _in_order(calls: Sequence[AwaitedCall], now: datetime) -> tuple[AwaitedCall, ...]:
    copies = (
        call.model_copy(update={"expires_at": _expiry(call, now)}, deep=True)
        for call in calls
    )
    return tuple(sorted(copies, key=lambda call: call.call_id))


def _expiry(call: AwaitedCall, now: datetime) -> datetime | None:
    seconds = call.timeout_seconds
    return None if seconds is None else now + timedelta(seconds=seconds)


def _earlier(stored: Step | None, step: Step, *, attempt: int) -> Step | None:
    """Return what stood under a step's key before, when it is another."""
    if stored is None:
        return None
    stamp = {"attempt": attempt, "recorded_at": stored.recorded_at}
    same = stored == step.model_copy(update=stamp)
    return None if same else stored.model_copy(deep=True)
