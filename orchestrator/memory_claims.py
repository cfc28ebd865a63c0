"""The part of the in-memory task store that hands out leases and renews them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Final

from orchestrator.events import EventType
from orchestrator.memory_entry import Entry, holds
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.memory_turns import MemoryTurns
from orchestrator.store import (
    Claim,
    FirstStep,
    Lease,
    LeaseState,
    RefusalReason,
    Started,
)
from orchestrator.store_limits import UNSERVED_SECONDS
from orchestrator.task import TaskStatus

_NOT_PENDING: Final = {
    TaskStatus.RUNNING: RefusalReason.LEASED,
    TaskStatus.WAITING: RefusalReason.WAITING,
}


class MemoryClaims:
    """Begins attempts and keeps their leases."""

    _ledger: MemoryLedger
    _lock: AbstractContextManager[object]
    _turns: MemoryTurns

    async def claim(
        self,
        tenant: str,
        task_id: str,
        *,
        worker: str,
        serves: Sequence[str],
        lease_seconds: float,
        first: FirstStep | None = None,
    ) -> Claim | RefusalReason:
        with self._lock:
            entry = self._ledger.entries.get((tenant, task_id))
            if entry is None:
                return RefusalReason.UNKNOWN
            self._ledger.dispatch.take_message(entry)
            refusal = self._refusal(entry, serves) or self._suspicion(entry, worker)
            if refusal is not None:
                return refusal
            self._begin(entry, worker, lease_seconds)
            window = self._turns.find_window(entry.task)
            journal = entry.journal._replace(read_at=self._ledger.now)
            return Claim(
                task=entry.copy(),
                lease=Lease(tenant, task_id, entry.task.attempt, worker),
                **journal._asdict(),
                doorbells=self._ledger.dispatch.refill(entry.task.queue),
                deadline_left_seconds=entry.deadline_left_seconds(self._ledger.now),
                has_mail=self._turns.has_mail(entry),
                window=window,
                begins_conversation=window is None and self._turns.keeps(entry.task),
                begun=self._begin_first(entry, first),
            )

    def _begin_first(self, entry: Entry, first: FirstStep | None) -> Started | None:
        """Mark what a first attempt begins with, where nothing comes before it."""
        task = entry.task
        if first is None or task.agent_name not in first.agents or task.attempt > 1:
            return None
        if self._turns.has_mail(entry):
            return None
        return self._ledger.mark(entry, first.start)

    def _refusal(self, entry: Entry, serves: Sequence[str]) -> RefusalReason | None:
        task, ledger = entry.task, self._ledger
        if task.status is not TaskStatus.PENDING:
            return _NOT_PENDING.get(task.status, RefusalReason.ENDED)
        reason = ledger.overdue(entry)
        if reason is not None:
            # A refusal carries no doorbells: the sweeper rings for the next turn.
            ledger.end_with_failure(entry, TaskStatus.FAILED, "expired", reason)
            ledger.hasten_next_turn(entry)
            return RefusalReason.EXPIRED
        if entry.held or (task.due_at is not None and task.due_at > ledger.now):
            return RefusalReason.NOT_DUE
        if not ledger.is_next_turn(entry):
            return RefusalReason.NOT_NEXT_TURN
        if task.agent_name not in serves:
            asked = f"the worker that was asked does not serve agent {task.agent_name}"
            entry.set(pending_reason=asked)
            entry.look_later(ledger.now + timedelta(seconds=UNSERVED_SECONDS))
            return RefusalReason.UNSERVED
        return None

    def _suspicion(self, entry: Entry, worker: str) -> RefusalReason | None:
        dispatch = self._ledger.dispatch
        if not entry.company or dispatch.has_berth(entry, worker):
            return None
        dispatch.stand_back(entry)
        entry.look_later(self._ledger.now + timedelta(seconds=UNSERVED_SECONDS))
        return RefusalReason.SUSPECT

    def _begin(self, entry: Entry, worker: str, lease_seconds: float) -> None:
        now, task = self._ledger.now, entry.task
        self._ledger.leave(entry)
        waited = (now - (task.due_at or now)).total_seconds()
        self._ledger.counts.claimed(task, waited_seconds=waited)
        entry.move(
            TaskStatus.RUNNING,
            attempt=task.attempt + 1,
            worker=worker,
            started_at=task.started_at or now,
        )
        if task.suspect:
            self._ledger.dispatch.take_aboard(entry)
        self._turns.use_conversation(task)
        entry.claimed_at = now
        entry.lease_until = now + timedelta(seconds=lease_seconds)
        self._ledger.record(
            entry, EventType.TASK_STARTED, worker=worker, attempt=entry.task.attempt
        )

    async def renew(
        self, leases: Sequence[Lease], *, lease_seconds: float
    ) -> tuple[LeaseState, ...]:
        with self._lock:
            until = self._ledger.now + timedelta(seconds=lease_seconds)
            return tuple(self._renew(lease, until) for lease in leases)

    def _renew(self, lease: Lease, until: datetime) -> LeaseState:
        entry = self._ledger.entries.get((lease.tenant, lease.task_id))
        if entry is None or not holds(entry, lease):
            return LeaseState.LOST
        entry.lease_until = until
        if entry.task.cancel_requested_at is not None:
            return LeaseState.CANCEL_REQUESTED
        return LeaseState.HELD

    async def surrender(self, leases: Sequence[Lease], *, blamed: Lease | None) -> None:
        with self._lock:
            self._ledger.surrender(leases, blamed)

    async def bury(self, worker: str) -> int:
        with self._lock:
            return self._ledger.bury(worker)
