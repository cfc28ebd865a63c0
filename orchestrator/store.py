"""The contract of a task store: record, journal, events and due index together.

They share their transactions, so they share a store. `redis_store` and `memory_store`
fulfil it and are held to one conformance suite. Every change is atomic, validates
first and writes last, and is safe to repeat when its answer was lost. Instants come
from the store's clock.

A transition that makes tasks runnable returns their doorbells; the caller rings them.
Per queue at most a window of messages is outstanding; further tasks stand in line, by
priority, then by how many tasks their tenant has there, then by acceptance.

A run whose worker vanished is a suspect until it records a step. When a worker vanishes
with one suspect aboard, that one is charged a crash and the others are not; of several,
each becomes a prime suspect, of which a worker holds ever fewer at a time, one in the
end; with none, each of its runs becomes a suspect. lua/recover.lua has the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from orchestrator.events import TaskEvent
from orchestrator.figures_store import FiguresStore
from orchestrator.journal import Decision
from orchestrator.journal_store import JournalStore
from orchestrator.schedule_store import ScheduleStore
from orchestrator.task import AwaitedCall, Task, TaskFailure
from orchestrator.task_listing import TaskFilter, TaskPage
from orchestrator.transition import (
    Cancellation,
    Claim,
    Creation,
    Doorbell,
    Ending,
    FirstStep,
    LastStep,
    Lease,
    LeaseState,
    Recorded,
    RefusalReason,
    Started,
    SweepReport,
    TaskEnd,
    Turn,
    Wakening,
)
from orchestrator.webhook_store import WebhookStore

__all__ = [
    "Cancellation",
    "Claim",
    "Creation",
    "Doorbell",
    "Ending",
    "FirstStep",
    "LastStep",
    "Lease",
    "LeaseState",
    "Recorded",
    "RefusalReason",
    "Started",
    "SweepReport",
    "TaskEnd",
    "TaskFilter",
    "TaskPage",
    "TaskStore",
    "Turn",
    "Wakening",
]


class TaskStore(JournalStore, ScheduleStore, WebhookStore, FiguresStore, Protocol):
    """Keeps tasks, their journals and event logs, and decides what may run."""

    async def create(
        self,
        tasks: Sequence[Task],
        *,
        answers: list[Creation | Exception] | None = None,
        known_agents: Collection[str] = (),
        are_new: bool = False,
    ) -> tuple[Creation | Exception, ...]:
        """Accept tasks; each is whole or absent, none depends on another.

        Writes record, idempotency, cache entry, turn order, due index and the first
        events. An equal request (same `idempotency_key`; or with `cache_ttl_seconds`
        the same agent, version, input, parameters and context while an equal task is
        unfinished, and not delayed, or completed within that time) returns the earlier
        task. A refused task's place holds an error instead: `AgentNotFound` (when
        agents are known, but not this one), `IdempotencyConflict`, `ConversationBusy`,
        `UnreadableRecord` (of the earlier task).

        On a conversation with unfinished turns `when_busy` decides. `interrupt` and
        `rollback` ask for the end of all of them; a turn that was rolled back enters
        no history, also when its answer comes first. `steer` returns the running task:
        the message waits for `take_messages`, and for a turn of its own when that
        task ends before.

        Each answer is added to `answers` as soon as it is known, so that a call that
        fails or is cancelled in the middle has told of those before.

        Args:
            tasks: In the order of their acceptance.
            answers: Takes the answers.
            known_agents: Those that the caller has seen announced; not looked up again.
            are_new: Made for this call: no other task can have had one of their ids,
                and none has a state.

        Raises:
            StoreUnavailable: nothing is known of those without an answer.
        """
        ...

    async def find_keyed(self, tenant: str, idempotency_key: str) -> str | None:
        """Return the id of the task that an idempotency key leads to.

        It may be gone by now; None where the key was not used, or long ago.
        """
        ...

    async def get(self, tenant: str, task_id: str) -> Task:
        """Return the record.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        ...

    async def ends(
        self, tenant: str, task_ids: Sequence[str]
    ) -> tuple[TaskEnd | None, ...]:
        """Return how tasks ended, in order, in one trip; None where none is found.

        The end of one whose message joined a run is that of the run.
        """
        ...

    async def list(
        self,
        tenant: str,
        task_filter: TaskFilter,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        """Return tasks that match every given field, newest first.

        Where they are large a page holds fewer than its limit and names the next one.
        """
        ...

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
        """Begin an attempt: `pending` and due → `running` with the next fence.

        Refuses quietly what may not run now. `UNSERVED`: the agent is not in
        `serves`; the task stays pending and is rung again a little later.
        `UNKNOWN_SCHEMA`: another release, or something else, wrote it; the same, and
        nothing is changed.
        `EXPIRED`: the queue-wait limit or deadline passed; the task is ended here.
        `SUSPECT`: the task may have brought its worker down, and this worker already
        runs such a one.
        A store that may lose an answer asks again, at most for the lease's time, and
        finds its own claim. What the run may see of its conversation is read along with
        it, as by `read_window`, where the store keeps that too and can read it. In the
        first attempt of one of its agents the `first` step is marked along with it, as
        by `start_step`, unless messages wait for the run.
        """
        ...

    async def renew(
        self, leases: Sequence[Lease], *, lease_seconds: float
    ) -> tuple[LeaseState, ...]:
        """Extend the leases that are still held; one answer for each, in order."""
        ...

    async def surrender(self, leases: Sequence[Lease], *, blamed: Lease | None) -> None:
        """Give up leases whose loop stands still; the next sweep takes them back.

        `blamed` names the run that blocks it: it alone is charged. None: nobody knows,
        and the rules of a vanished worker hold.
        """
        ...

    async def bury(self, worker: str) -> int:
        """End the leases of a worker whose process is gone; return how many.

        The next sweep takes them back, by the rules of a vanished worker.
        """
        ...

    async def events(
        self,
        tenant: str,
        task_id: str,
        *,
        after: int = -1,
        limit: int = 500,
        wait_seconds: float = 0.0,
    ) -> tuple[TaskEvent, ...]:
        """Return events whose sequence exceeds `after`, oldest first.

        Waits up to `wait_seconds` for the first one; empty when none came.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        ...

    async def watch(self, tenant: str, task_id: str, *, seconds: float) -> None:
        """Note that somebody follows the task's events for that long.

        The run is told so when it starts a step.
        """
        ...

    async def release(
        self,
        lease: Lease,
        *,
        running_seconds: float,
        delay_seconds: float = 0.0,
        reason: str,
        failure: TaskFailure | None = None,
    ) -> tuple[Doorbell, ...]:
        """End an attempt without ending the task: `running` → `pending`.

        With `failure` the attempt counts as failed; without it nothing is counted.
        A task whose cancel was requested becomes `cancelled` instead.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def park(
        self, lease: Lease, calls: Sequence[AwaitedCall], *, running_seconds: float
    ) -> tuple[Doorbell, ...]:
        """Give up the worker until a person has decided: `running` → `waiting`.

        `calls` are at least one. A task whose cancel was requested becomes
        `cancelled` instead.

        Raises:
            LeaseLost: the fence is old.
        """
        ...

    async def resolve(self, tenant: str, task_id: str, decision: Decision) -> Wakening:
        """Decide on an awaited call; after the last one `waiting` → `pending`.

        Repeating a decision changes nothing.

        Raises:
            TaskNotFound: none of this tenant has the id.
            InvalidInput: the task does not await a decision on this call.
        """
        ...

    async def finish(
        self,
        lease: Lease,
        ending: Ending,
        *,
        running_seconds: float,
        last: LastStep | None = None,
    ) -> tuple[Doorbell, ...]:
        """End the task: status, result, turn, end event and health, once, together.

        So do all transitions that end a task: without a turn of its own the next turn
        of a conversation leaves its question and a closing mark (`on_failure`). Before
        its end the run's `last` step is recorded, in the same change.
        Repeating it with the same fence after it took effect changes nothing.

        Raises:
            LeaseLost: the fence is old, or the task has ended otherwise.
        """
        ...

    async def cancel(self, tenant: str, task_id: str) -> Cancellation:
        """Ask for the end of a task.

        `pending` and `waiting` → `cancelled` at once. `running` keeps its status,
        shows `cancel_requested_at` and tells its worker. Ended tasks do not change.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        ...

    async def delete(self, tenant: str, task_id: str) -> None:
        """Forget an ended task before its time: record, journal and events.

        Raises:
            TaskNotFound: none of this tenant has the id.
            InvalidTransition: it has not ended.
        """
        ...

    async def wait_cancel_requests(
        self, worker: str, *, wait_seconds: float
    ) -> tuple[tuple[str, str], ...]:
        """Wait for pushed cancels to this worker: (tenant, task id) pairs.

        Only a short cut; `renew` tells of every cancel too.
        """
        ...

    async def sweep(self, *, limit: int = 500) -> SweepReport:
        """Do what is overdue, for all tenants; any number may sweep at once.

        Takes back expired leases, ends crash loops and tasks past their limits,
        rings for due tasks and again for those whose message seems lost, and forgets
        ended ones; `limit` of each kind. What cannot be done for one task is logged
        and keeps nothing from the others.
        """
        ...

    async def check(self) -> dict[str, str]:
        """Report the server: version, durability and warnings.

        Durability is what writes outlive: `none`, `process` or `os`; `unknown` where
        the server does not say.

        Raises:
            StoreUnavailable: it does not answer, evicts keys, or is a replica.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
