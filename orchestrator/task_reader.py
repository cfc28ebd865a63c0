"""The reading half of the public face: how tasks stand and end, and who serves them.

Changes nothing. Reads a store that restarts until it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TypeVar

from conversations.json_value import NotStorable, check_identifier
from orchestrator.agent_config import AgentInfo, WorkerInfo
from orchestrator.errors import (
    AgentNotFound,
    InvalidInput,
    StoreUnavailable,
    TaskCancelled,
    TaskEndedWithoutResult,
    TaskFailed,
    TaskTimedOut,
    WaitTimeout,
)
from orchestrator.events import TaskEvent
from orchestrator.figures_store import TenantFigures
from orchestrator.gate_report import GateReport, read_gates
from orchestrator.journal import Step
from orchestrator.lookup import (
    check_agent_name,
    check_page_limit,
    check_sequence,
    check_task_id,
)
from orchestrator.names import nearest_names
from orchestrator.overview import Overview, read_overview
from orchestrator.parts import OrchestratorParts
from orchestrator.patience import Patience
from orchestrator.readiness import Readiness, read_readiness
from orchestrator.schedule import Schedule
from orchestrator.shared_timeout import SharedTimeout
from orchestrator.store import TaskEnd, TaskFilter, TaskPage
from orchestrator.task import Task, TaskResult, TaskStatus

T = TypeVar("T")

STORE_SECONDS = 4.0
"""How long the store may take for one call, however many commands it needs."""
EVENT_WAIT_SECONDS = 2.0
"""One blocking read of the event log."""
READ_PATIENCE_SECONDS = 30.0
"""A Redis that restarts is back within this."""
READ_AGAIN_SECONDS = 0.5
WATCH_SECONDS = 30.0
"""How long a run streams for a viewer that does not come again."""
_ENDS: dict[TaskStatus, type[TaskEndedWithoutResult]] = {
    TaskStatus.FAILED: TaskFailed,
    TaskStatus.CANCELLED: TaskCancelled,
    TaskStatus.TIMED_OUT: TaskTimedOut,
}


class Viewer:
    """Somebody who follows a task; lets it know from time to time."""

    def __init__(self, reader: TaskReader, task_id: str, *, tenant: str | None) -> None:
        self._reader = reader
        self._task_id = task_id
        self._tenant = tenant
        self._next = 0.0

    async def still_there(self) -> None:
        """Note that the task is followed; a store that is away is no matter."""
        if monotonic() < self._next:
            return
        self._next = monotonic() + WATCH_SECONDS / 3
        with suppress(StoreUnavailable):
            await self._reader.watch(self._task_id, tenant=self._tenant)


class TaskReader:
    """Reads tasks, their events and answers, agents and workers."""

    def __init__(self, parts: OrchestratorParts) -> None:
        self._parts = parts
        self._limit = SharedTimeout(STORE_SECONDS, error=_no_answer)

    async def get(self, task_id: str, *, tenant: str | None = None) -> Task:
        """Return a task's record.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        return await self._bounded(self._parts.store.get(*self._key(tenant, task_id)))

    async def status(self, task_id: str, *, tenant: str | None = None) -> TaskStatus:
        """Return where a task stands.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        return (await self.get(task_id, tenant=tenant)).status

    async def result(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        on_event: Callable[[TaskEvent], None] | None = None,
        tenant: str | None = None,
    ) -> TaskResult:
        """Wait for a task's answer, at most `timeout` seconds; 0 looks once.

        `on_event` is told of every event meanwhile, from the task's first. A store
        that is away for less than `READ_PATIENCE_SECONDS` is waited for.

        Raises:
            InvalidInput: a timeout that is negative or no number.
            TaskFailed, TaskCancelled, TaskTimedOut: it ended without one.
            WaitTimeout: it has not ended; says so when no worker serves its agent.
            TaskNotFound: none of this tenant has the id.
            StoreUnavailable: the store stays away.
        """
        patience = Patience(timeout)

        async def look() -> TaskEnd | None:
            return await self._patiently(lambda: self._end(task_id, tenant), patience)

        end = None if on_event else await look()
        if end is None or not end.status.is_terminal:
            viewer = Viewer(self, task_id, tenant=tenant)
            after = -1 if end is None else end.last_sequence
            async for event in self._events(task_id, after, tenant, patience):
                if on_event is not None:
                    await viewer.still_there()
                    on_event(event)
            end = await look()
        if end and end.status is TaskStatus.COMPLETED and end.result is not None:
            return end.result
        task = await self.get(task_id, tenant=tenant)
        if not task.status.is_terminal:
            raise WaitTimeout(await self._why_waiting(task, patience.waited_seconds))
        if task.status is TaskStatus.COMPLETED and task.result is not None:
            return task.result  # it came after that look
        raise _ENDS.get(task.status, TaskFailed)(task)

    async def events(
        self, task_id: str, *, after: int = -1, tenant: str | None = None
    ) -> AsyncIterator[TaskEvent]:
        """Yield a task's events beyond `after`, live, up to its end event.

        A store that is away for less than `READ_PATIENCE_SECONDS` is waited for.

        Raises:
            TaskNotFound: none of this tenant has the id.
            StoreUnavailable: the store stays away.
            InvalidInput: `after` is no sequence number.
        """
        check_sequence(after)
        viewer = Viewer(self, task_id, tenant=tenant)
        await viewer.still_there()
        async for event in self._events(task_id, after, tenant, Patience(None)):
            yield event
            await viewer.still_there()

    async def watch(self, task_id: str, *, tenant: str | None = None) -> None:
        """Have the run stream its text for a while, from its next completion on.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        key = self._key(tenant, task_id)
        await self._bounded(self._parts.store.watch(*key, seconds=WATCH_SECONDS))

    async def read_events(
        self,
        task_id: str,
        *,
        after: int = -1,
        wait_seconds: float = 0.0,
        tenant: str | None = None,
    ) -> tuple[TaskEvent, ...]:
        """Return some events beyond `after`; waits for the first, empty when none came.

        Raises:
            TaskNotFound: none of this tenant has the id.
            StoreUnavailable: the store stays away.
            InvalidInput: `after` is no sequence number.
        """
        key = self._key(tenant, task_id)
        return await self._read_events(
            key,
            check_sequence(after),
            Patience(wait_seconds),
            slice_seconds=wait_seconds,
        )

    async def steps(
        self,
        task_id: str,
        *,
        keys: Sequence[str] | None = None,
        tenant: str | None = None,
    ) -> tuple[Step, ...]:
        """Return the finished steps of a task: all, or those with one of the keys.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        name = self._key(tenant, task_id)
        return await self._bounded(self._parts.store.steps(*name, keys=keys))

    async def list(
        self,
        task_filter: TaskFilter | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str | None = None,
    ) -> TaskPage:
        """Return tasks that match, newest first, at most 1000 at a time.

        Raises:
            InvalidInput: a limit or cursor that cannot be taken.
        """
        return await self._bounded(
            self._parts.store.list(
                self._of(tenant),
                task_filter or TaskFilter(),
                limit=check_page_limit(limit),
                cursor=cursor,
            )
        )

    async def agents(self) -> tuple[AgentInfo, ...]:
        """Return every known agent, announced or in these settings, with its health."""
        known = {
            info.name: info
            for info in await self._bounded(self._parts.directory.agents())
        }
        for name, config in self._parts.agents.items():
            known.setdefault(name, AgentInfo(config=config))
        return tuple(info for _, info in sorted(known.items()))

    async def agent(self, name: str) -> AgentInfo:
        """Return one known agent, announced or in these settings, with its health.

        Raises:
            AgentNotFound: it is not known.
        """
        check_agent_name(name)
        with suppress(NotStorable):  # nothing is called what cannot be a name
            find = self._parts.directory.find(check_identifier(name))
            if (info := await self._bounded(find)) is not None:
                return info
        known = {info.name: info for info in await self.agents()}
        if name not in known:
            raise AgentNotFound(name, nearest=nearest_names(name, known))
        return known[name]

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """Return the live workers."""
        return await self._bounded(self._parts.directory.workers())

    async def gates(self) -> tuple[GateReport, ...]:
        """Return how the gate before each configured model stands."""
        return await self._bounded(read_gates(self._parts))

    async def overview(
        self, *, tenant: str | None = None, fleet: bool = True
    ) -> Overview:
        """Return how things stand for a tenant, with `fleet` for the whole system."""
        agents = await self.agents()
        return await self._bounded(
            read_overview(self._parts, agents, tenant=self._of(tenant), fleet=fleet)
        )

    async def tenants(self) -> tuple[str, ...]:
        """Return the tenants that have ever had a task."""
        return await self._bounded(self._parts.store.tenants())

    async def figures(self, *, tenant: str | None = None) -> TenantFigures:
        """Return what has been counted of a tenant's tasks, and who waits longest."""
        store, name = self._parts.store, self._of(tenant)
        return TenantFigures(
            await self._bounded(store.counters(name)),
            await self._bounded(store.oldest_due(name)),
        )

    async def unfinished(self, *, tenant: str | None = None) -> int:
        """Return how many tasks of a tenant have not ended."""
        return await self._bounded(self._parts.store.unfinished(self._of(tenant)))

    async def readiness(self) -> Readiness:
        """Tell whether a task submitted now would be taken, part by part."""
        return await read_readiness(self._parts)

    async def check(self) -> dict[str, str]:
        """Report the store: version, durability, warnings.

        Raises:
            StoreUnavailable: it does not answer, takes no writes or must not be used.
        """
        store = self._parts.store
        report = await self._bounded(store.check())
        await self._bounded(store.probe())
        return report

    async def schedules(self, *, tenant: str | None = None) -> tuple[Schedule, ...]:
        """Return the schedules with their next ticks."""
        return await self._bounded(self._parts.store.schedules(self._of(tenant)))

    async def _why_waiting(self, task: Task, waited: float) -> str:
        text = f"task {task.id} is still {task.status.value} after {waited:.1f} s"
        if task.status is TaskStatus.RUNNING:
            return f"{text}; it goes on, wait again or cancel it"
        if task.status is TaskStatus.WAITING:
            return f"{text}; {task.pending_reason or 'it awaits a decision'}"
        if task.not_before and task.not_before > datetime.now(UTC):
            return (
                f"{text}; its not_before is {task.not_before.isoformat()},"
                " wait until then or cancel it"
            )
        info = await self._bounded(self._parts.directory.find(task.agent_name))
        if info is None or not info.health.served:
            return (
                f"{text}: no live worker serves agent {task.agent_name!r};"
                " start one with `celery -A workers worker`"
            )
        if task.pending_reason:
            return f"{text} ({task.pending_reason}); wait again or cancel it"
        turn = "earlier turns of its conversation or " if task.conversation_id else ""
        return f"{text}; {turn}busy workers come first, wait again or start more"

    async def _events(
        self, task_id: str, after: int, tenant: str | None, patience: Patience
    ) -> AsyncIterator[TaskEvent]:
        key = self._key(tenant, task_id)
        while True:
            events = await self._read_events(key, after, patience)
            for event in events:
                after = event.sequence
                yield event
                if event.type.is_end:
                    return
            if patience.left_seconds <= 0:
                return
            if not events and await self._has_ended(task_id, tenant):
                return

    async def _read_events(
        self,
        key: tuple[str, str],
        after: int,
        patience: Patience,
        slice_seconds: float = EVENT_WAIT_SECONDS,
    ) -> tuple[TaskEvent, ...]:
        return await self._patiently(
            lambda: self._parts.store.events(
                *key,
                after=after,
                wait_seconds=min(slice_seconds, patience.left_seconds),
            ),
            patience,
        )

    async def _patiently(
        self, read: Callable[[], Coroutine[Any, Any, T]], patience: Patience
    ) -> T:
        """Read again while the store is away, as long as there is patience."""
        store_patience = Patience(READ_PATIENCE_SECONDS)
        while True:
            try:
                return await read()
            except StoreUnavailable:
                left = min(store_patience.left_seconds, patience.left_seconds)
                if left <= 0:
                    raise
            await asyncio.sleep(min(READ_AGAIN_SECONDS, left))

    async def _end(self, task_id: str, tenant: str | None) -> TaskEnd | None:
        """Return how a task stands, read for less than its record; None without one.

        None too of one whose message joined a run.
        """
        name, task_id = self._key(tenant, task_id)
        (end,) = await self._bounded(self._parts.store.ends(name, [task_id]))
        if end is None or (end.result and end.result.task_id != task_id):
            return None
        return end

    async def _has_ended(self, task_id: str, tenant: str | None) -> bool:
        """Whether the task ended although its log brought no end event."""
        return (await self.get(task_id, tenant=tenant)).status.is_terminal

    def _key(self, tenant: str | None, task_id: str) -> tuple[str, str]:
        return self._of(tenant), check_task_id(task_id)

    def _of(self, tenant: str | None) -> str:
        if tenant is None:
            return self._parts.defaults.tenant
        try:
            return check_identifier(tenant)
        except NotStorable as exc:
            raise InvalidInput("tenant", exc.reason) from None

    async def _bounded(self, call: Coroutine[Any, Any, T]) -> T:
        with self._limit.begin():
            return await call


def _no_answer() -> StoreUnavailable:
    return StoreUnavailable(
        f"the store did not answer within {STORE_SECONDS} s;"
        " check that Redis is up and not overloaded"
    )
