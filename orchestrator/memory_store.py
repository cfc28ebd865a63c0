"""The task store in the memory of one process, for tests and small deployments.

Shares one lock with the conversation store, so that a turn and its task's end are one
change there too. Nothing outlives the process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from conversations.conversation import ConversationConfig
from conversations.json_value import JsonObject
from conversations.memory_store import InMemoryConversationStore
from conversations.redaction import Redact
from orchestrator.errors import InvalidTransition
from orchestrator.events import EventType, TaskEvent
from orchestrator.journal_entries import redacted_step
from orchestrator.memory_acceptance import MemoryAcceptance
from orchestrator.memory_claims import MemoryClaims
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_entry import Entry
from orchestrator.memory_figures import MemoryFigures
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.memory_run_journal import MemoryRunJournal
from orchestrator.memory_schedules import MemorySchedules
from orchestrator.memory_sweep import MemorySweep
from orchestrator.memory_turns import MemoryTurns
from orchestrator.memory_waiters import MemoryWaiters
from orchestrator.memory_webhooks import MemoryWebhooks
from orchestrator.metrics import release_cause
from orchestrator.store import (
    Cancellation,
    Creation,
    Doorbell,
    Ending,
    LastStep,
    Lease,
    SweepReport,
    TaskEnd,
    TaskFilter,
    TaskPage,
)
from orchestrator.store_limits import (
    DELTA_TTL_SECONDS,
    DISPATCH_WINDOW,
    IDEMPOTENCY_TTL_SECONDS,
    MAX_CRASHES,
    MOST_COUNTERS,
    RESEND_SECONDS,
    RESULT_TTL_SECONDS,
)
from orchestrator.task import Task, TaskFailure, TaskResult, TaskStatus
from orchestrator.task_record import (
    end_event_data,
    matches,
    read_cursor,
    release_event_data,
)


class InMemoryTaskStore(
    MemoryClaims, MemoryRunJournal, MemorySchedules, MemoryWebhooks, MemoryFigures
):
    """A `TaskStore` without I/O; safe for threads and event loops."""

    def __init__(  # noqa: PLR0913 - settings, each with a default
        self,
        *,
        conversations: InMemoryConversationStore | None = None,
        directory: InMemoryAgentDirectory | None = None,
        known_agents: Collection[str] = (),
        conversation_config: ConversationConfig | None = None,
        redact: Redact | None = None,
        toll: InMemoryToll | None = None,
        result_ttl_seconds: float = RESULT_TTL_SECONDS,
        delta_ttl_seconds: float = DELTA_TTL_SECONDS,
        idempotency_ttl_seconds: float = IDEMPOTENCY_TTL_SECONDS,
        max_crashes: int = MAX_CRASHES,
        resend_seconds: float = RESEND_SECONDS,
        dispatch_window: int = DISPATCH_WINDOW,
        most_counters: int = MOST_COUNTERS,
    ) -> None:
        """Share the lock of `conversations` and the agents of `directory`."""
        self._waiters = MemoryWaiters()
        directory = directory or InMemoryAgentDirectory()
        ledger = MemoryLedger(
            directory=directory,
            resend_seconds=resend_seconds,
            window=dispatch_window,
            most_counters=most_counters,
            changed=self._waiters.notify,
        )
        turns = MemoryTurns(
            ledger,
            conversations=conversations,
            config=conversation_config,
            result_ttl_seconds=result_ttl_seconds,
            redact=redact,
        )
        super().__init__(ledger, turns=turns, redact=redact, toll=toll)
        self._acceptance = MemoryAcceptance(
            self._ledger,
            turns=turns,
            directory=directory,
            known_agents=known_agents,
            idempotency_ttl_seconds=idempotency_ttl_seconds,
        )
        self._sweep = MemorySweep(
            self._ledger,
            forget=self._forget,
            max_crashes=max_crashes,
            resend_seconds=resend_seconds,
            result_ttl_seconds=result_ttl_seconds,
            delta_ttl_seconds=delta_ttl_seconds,
        )

    async def create(
        self,
        tasks: Sequence[Task],
        *,
        answers: list[Creation | Exception] | None = None,
        known_agents: Collection[str] = (),  # noqa: ARG002 - to look costs nothing
        are_new: bool = False,  # noqa: ARG002
    ) -> tuple[Creation | Exception, ...]:
        answers = [] if answers is None else answers
        first = len(answers)
        with self._lock:
            for task in tasks:
                answers.append(self._acceptance.accept(task))
        return tuple(answers[first:])

    async def find_keyed(self, tenant: str, idempotency_key: str) -> str | None:
        with self._lock:
            return self._acceptance.find_keyed(tenant, idempotency_key)

    async def get(self, tenant: str, task_id: str) -> Task:
        with self._lock:
            return self._ledger.get(tenant, task_id).copy()

    async def ends(
        self, tenant: str, task_ids: Sequence[str]
    ) -> tuple[TaskEnd | None, ...]:
        with self._lock:
            found = [self._ledger.answering((tenant, each)) for each in task_ids]
            return tuple(_end_of(entry) if entry else None for entry in found)

    async def list(
        self,
        tenant: str,
        task_filter: TaskFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        below = read_cursor(cursor)
        with self._lock:
            found = [
                entry
                for entry in reversed(self._ledger.entries.values())
                if entry.task.tenant == tenant
                and (below is None or entry.ordinal < below)
                and matches(entry.task, task_filter)
            ]
            page = found[:limit]
            more = page and len(found) > limit
            return TaskPage(
                tasks=tuple(entry.copy() for entry in page),
                next_cursor=str(page[-1].ordinal) if more else None,
            )

    async def watch(self, tenant: str, task_id: str, *, seconds: float) -> None:
        with self._lock:
            self._ledger.watch((tenant, task_id), seconds)

    async def events(
        self,
        tenant: str,
        task_id: str,
        *,
        after: int = -1,
        limit: int = 500,
        wait_seconds: float = 0.0,
    ) -> tuple[TaskEvent, ...]:
        def look() -> tuple[TaskEvent, ...] | None:
            with self._lock:
                entry = self._ledger.get(tenant, task_id)
                first = bisect_right(entry.events, after, key=attrgetter("sequence"))
                found = entry.events[first : first + limit]
                if not found and not entry.task.status.is_terminal:
                    return None
                return tuple(event.model_copy(deep=True) for event in found)

        found = await self._waiters.until(
            (tenant, task_id), look, wait_seconds=wait_seconds
        )
        return found or ()

    async def release(
        self,
        lease: Lease,
        *,
        running_seconds: float,
        delay_seconds: float = 0.0,
        reason: str,
        failure: TaskFailure | None = None,
    ) -> tuple[Doorbell, ...]:
        with self._lock:
            entry, ledger = self._ledger.held(lease), self._ledger
            task = entry.task
            changes: dict[str, object] = {
                "running_seconds": task.running_seconds + running_seconds
            }
            if failure is not None:
                changes["failed_attempts"] = task.failed_attempts + 1
                changes["failure"] = failure
            if task.cancel_requested_at is not None:
                data: JsonObject = {"status": "cancelled"}
                return ledger.end(entry, TaskStatus.CANCELLED, data, **changes)
            bells = ledger.leave(entry)
            entry.resumes = failure is None
            ledger.counts.released(task, release_cause(delay_seconds, failure))
            entry.move(TaskStatus.PENDING, **changes)
            entry.set(pending_reason=reason)
            ledger.record(
                entry,
                EventType.TASK_RELEASED,
                **release_event_data(reason, delay_seconds, failure),
            )
            due_at = ledger.now + timedelta(seconds=delay_seconds)
            return (*bells, *ledger.make_due(entry, due_at))

    async def finish(
        self,
        lease: Lease,
        ending: Ending,
        *,
        running_seconds: float,
        last: LastStep | None = None,
    ) -> tuple[Doorbell, ...]:
        status = ending.status
        if not status.is_terminal:
            raise InvalidTransition(
                lease.task_id, status="running", wanted=f"{status} by finish"
            )
        with self._lock:
            found = self._ledger.entries.get((lease.tenant, lease.task_id))
            if found and (found.finished_by, found.task.status) == (
                lease.fence,
                status,
            ):
                return self._ledger.wake_next_turn(found)
            entry = self._ledger.held(lease)
            data = end_event_data(ending)
            kept = redacted_step(last.step, self._redact) if last else None
            if not self._turns.append(entry, ending):
                data["turn"] = "dropped"
            if last and kept:
                self._write(entry, kept, last.events)
            entry.finished_by = lease.fence
            self._ledger.count_run(entry, status, ending.failure)
            now = self._ledger.now
            return self._ledger.end(
                entry,
                status,
                data,
                finished_at=now,
                running_seconds=entry.task.running_seconds + running_seconds,
                result=_copy_result(ending.result, status, now),
                failure=ending.failure,
            )

    async def cancel(self, tenant: str, task_id: str) -> Cancellation:
        with self._lock:
            entry = self._ledger.get(tenant, task_id)
            bells = self._ledger.request_cancel(entry)
            return Cancellation(entry.copy(), bells)

    async def delete(self, tenant: str, task_id: str) -> None:
        with self._lock:
            task = self._ledger.get(tenant, task_id).task
            if not task.status.is_terminal:
                raise InvalidTransition(task.id, status=task.status, wanted="deleted")
            del self._ledger.entries[(tenant, task_id)]
            self._ledger.webhooks.pop((tenant, task_id), None)
            self._forget(task)

    def _forget(self, task: Task) -> None:
        self._ledger.unfollow(task)
        self._acceptance.forget(task)
        self._toll.budget.forget(task.tenant, task.id)

    async def wait_cancel_requests(
        self, worker: str, *, wait_seconds: float
    ) -> tuple[tuple[str, str], ...]:
        def take() -> tuple[tuple[str, str], ...] | None:
            with self._lock:
                return tuple(self._ledger.cancels.pop(worker, ())) or None

        found = await self._waiters.until(worker, take, wait_seconds=wait_seconds)
        return found or ()

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        with self._lock:
            self._turns.purge()
            return self._sweep.run(limit=limit)

    async def check(self) -> dict[str, str]:
        return {"version": "in memory", "durability": "none"}

    async def aclose(self) -> None:
        """Nothing is open."""


def _copy_result(
    result: TaskResult | None, status: TaskStatus, now: datetime
) -> TaskResult | None:
    stamp = {"status": status, "executed_at": now}
    return result.model_copy(update=stamp, deep=True) if result else None


def _end_of(entry: Entry) -> TaskEnd:
    task = entry.copy()
    return TaskEnd(task.status, task.result, entry.events[-1].sequence)
