"""The blocking face: the same methods, driven on a loop of its own.

Repeats signatures, never logic. Usable from any thread, also where another event loop
runs (it blocks that loop meanwhile), but in no coroutine of a worker's agents or tools.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack
from warnings import warn

from pydantic import JsonValue

from orchestrator.agent_config import AgentInfo, WorkerInfo
from orchestrator.blocking_chat import Chat
from orchestrator.blocking_conversations import BlockingConversations
from orchestrator.errors import LoopWouldBlock, OrchestratorClosed
from orchestrator.events import TaskEvent
from orchestrator.gate_report import GateReport
from orchestrator.journal import Action, Step
from orchestrator.loop_thread import LoopClosed, LoopThread, is_in_loops_coroutine
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.parts import OrchestratorParts
from orchestrator.request import SubmitOptions, SubmitRequest, Then
from orchestrator.schedule import Missed, Schedule
from orchestrator.settings import Settings
from orchestrator.store import TaskFilter, TaskPage
from orchestrator.task import Task, TaskResult, TaskStatus
from orchestrator.task_handle import AsyncTaskHandle

T = TypeVar("T")


class Orchestrator:
    """Submits tasks and reads them. `with` closes it; tasks go on.

    Every method does what the method of the same name of `AsyncOrchestrator` does.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        parts: OrchestratorParts | None = None,
    ) -> None:
        if is_in_loops_coroutine():
            raise LoopWouldBlock
        self._async = AsyncOrchestrator(settings, parts=parts)
        self._loop = LoopThread("celeriac-orchestrator")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """Warn of connections and a thread that nobody closed, and end them."""
        loop: LoopThread | None = getattr(self, "_loop", None)
        if loop is not None and loop.is_alive:
            what = "an Orchestrator was not closed; use `with Orchestrator() as …`"
            warn(what, ResourceWarning, source=self, stacklevel=2)
            loop.abandon(self._async.aclose())

    def close(self) -> None:
        """Close connections; a second call does nothing."""
        if self._loop.is_alive:
            with suppress(CancelledError, LoopClosed):  # another thread closes it
                self._loop.await_(self._async.aclose())
            self._loop.close()

    @property
    def conversations(self) -> BlockingConversations:
        """The conversations service.

        Raises:
            ServiceDisabled: it is switched off.
        """
        return BlockingConversations(self._async.conversations, self._await)

    def submit(
        self,
        agent: str,
        input: Mapping[str, JsonValue],  # noqa: A002
        **options: Unpack[SubmitOptions],
    ) -> TaskHandle:
        """Accept a task; see `AsyncOrchestrator.submit` for options and errors."""
        return self._handle(self._await(self._async.submit(agent, input, **options)))

    def chat(self, agent: str, conversation_id: str | None = None) -> Chat:
        """Return a talk with an agent; without an id it begins a conversation."""
        chat = self._async.chat(agent, conversation_id)
        return Chat(chat, await_=self._await, iterate=self._iterate)

    def submit_many(
        self,
        requests: Iterable[SubmitRequest | Mapping[str, Any]],
        *,
        then: Then = (),
    ) -> tuple[TaskHandle, ...]:
        """Accept many tasks at once, and what runs after them."""
        handles = self._await(self._async.submit_many(requests, then=then))
        return tuple(self._handle(handle) for handle in handles)

    def execute_async(self, task: Task) -> str:
        """Accept a task made by hand; return its id."""
        return self._await(self._async.execute_async(task))

    def get(self, task_id: str, *, tenant: str | None = None) -> Task:
        """Return a task's record."""
        return self._await(self._async.get(task_id, tenant=tenant))

    def handle(self, task_id: str, *, tenant: str | None = None) -> TaskHandle:
        """Return a handle on a task that was submitted elsewhere."""
        return self._handle(self._await(self._async.handle(task_id, tenant=tenant)))

    def status(self, task_id: str, *, tenant: str | None = None) -> TaskStatus:
        """Return where a task stands."""
        return self._await(self._async.status(task_id, tenant=tenant))

    def result(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        tenant: str | None = None,
    ) -> TaskResult:
        """Wait for a task's answer, at most `timeout` seconds."""
        return self._await(self._async.result(task_id, timeout=timeout, tenant=tenant))

    def events(
        self, task_id: str, *, after: int = -1, tenant: str | None = None
    ) -> Iterator[TaskEvent]:
        """Yield a task's events beyond `after`, live, up to its end event."""
        return self._iterate(self._async.events(task_id, after=after, tenant=tenant))

    def steps(
        self,
        task_id: str,
        *,
        keys: Sequence[str] | None = None,
        tenant: str | None = None,
    ) -> tuple[Step, ...]:
        """Return the finished steps of a task: all, or those with one of the keys."""
        return self._await(self._async.steps(task_id, keys=keys, tenant=tenant))

    def list(
        self,
        task_filter: TaskFilter | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str | None = None,
    ) -> TaskPage:
        """Return tasks that match, newest first."""
        return self._await(
            self._async.list(task_filter, limit=limit, cursor=cursor, tenant=tenant)
        )

    def cancel(self, task_id: str, *, tenant: str | None = None) -> Task:
        """Ask for the end of a task; return it as it now stands."""
        return self._await(self._async.cancel(task_id, tenant=tenant))

    def resolve(
        self,
        task_id: str,
        call_id: str,
        decision: Action | Literal["done", "run", "refuse", "fail"],
        *,
        output: JsonValue = None,
        note: str = "",
        tenant: str | None = None,
    ) -> Task:
        """Decide on a call whose outcome a crash hid; the task goes on."""
        return self._await(
            self._async.resolve(
                task_id, call_id, decision, output=output, note=note, tenant=tenant
            )
        )

    def retry(
        self,
        task_id: str,
        *,
        tenant: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> TaskHandle:
        """Submit an ended task's request again, as a new task."""
        return self._handle(
            self._await(self._async.retry(task_id, tenant=tenant, metadata=metadata))
        )

    def schedule(
        self,
        schedule_id: str,
        agent: str,
        input: Mapping[str, JsonValue],  # noqa: A002
        *,
        cron: str,
        time_zone: str = "UTC",
        missed: Missed = "one",
        **options: Unpack[SubmitOptions],
    ) -> Schedule:
        """Submit a task at each tick of a cron expression, once for each tick."""
        return self._await(
            self._async.schedule(
                schedule_id,
                agent,
                input,
                cron=cron,
                time_zone=time_zone,
                missed=missed,
                **options,
            )
        )

    def unschedule(self, schedule_id: str, *, tenant: str | None = None) -> bool:
        """End a schedule; tell whether there was one."""
        return self._await(self._async.unschedule(schedule_id, tenant=tenant))

    def schedules(self, *, tenant: str | None = None) -> tuple[Schedule, ...]:
        """Return the schedules with their next ticks."""
        return self._await(self._async.schedules(tenant=tenant))

    def agents(self) -> tuple[AgentInfo, ...]:
        """Return every known agent with its health."""
        return self._await(self._async.agents())

    def agent(self, name: str) -> AgentInfo:
        """Return one known agent with its health."""
        return self._await(self._async.agent(name))

    def gates(self) -> tuple[GateReport, ...]:
        """Return how the gate before each configured model stands."""
        return self._await(self._async.gates())

    def workers(self) -> tuple[WorkerInfo, ...]:
        """Return the live workers."""
        return self._await(self._async.workers())

    def check(self) -> dict[str, str]:
        """Report the store: version, durability, warnings."""
        return self._await(self._async.check())

    def _handle(self, handle: AsyncTaskHandle) -> TaskHandle:
        return TaskHandle(handle, self)

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if not self._loop.is_alive:
            coroutine.close()
            raise OrchestratorClosed
        if is_in_loops_coroutine():
            coroutine.close()
            raise LoopWouldBlock
        try:
            return self._loop.await_(coroutine)
        except (CancelledError, LoopClosed):
            if self._loop.is_alive:
                raise
            raise OrchestratorClosed from None  # meanwhile, by another thread

    def _iterate(self, events: AsyncIterator[TaskEvent]) -> Iterator[TaskEvent]:
        try:
            while (event := self._await(_next(events))) is not None:
                yield event
        finally:
            if self._loop.is_alive:
                with suppress(CancelledError, LoopClosed):
                    self._loop.await_(_close(events))


class TaskHandle:
    """A task in the caller's hand."""

    def __init__(self, handle: AsyncTaskHandle, orchestrator: Orchestrator) -> None:
        self._handle = handle
        self._orchestrator = orchestrator
        self.id = handle.id
        self.created = handle.created
        """False when an equal request had been accepted before."""
        self.warning = handle.warning
        """What stands in the way of the task at acceptance, if anything."""

    def __repr__(self) -> str:
        return f"<task {self.id}>"

    def get(self) -> Task:
        """Return the record."""
        return self._orchestrator.get(self.id, tenant=self._handle.tenant)

    def status(self) -> TaskStatus:
        """Return where it stands."""
        return self.get().status

    def result(self, timeout: float | None = None) -> TaskResult:
        """Wait for the answer; see `AsyncOrchestrator.result`."""
        return self._orchestrator.result(
            self.id, timeout=timeout, tenant=self._handle.tenant
        )

    def events(self, after: int = -1) -> Iterator[TaskEvent]:
        """Yield events beyond `after`, live, up to the end event."""
        return self._orchestrator.events(
            self.id, after=after, tenant=self._handle.tenant
        )

    def cancel(self) -> Task:
        """Ask for its end."""
        return self._orchestrator.cancel(self.id, tenant=self._handle.tenant)


async def _next(events: AsyncIterator[TaskEvent]) -> TaskEvent | None:
    return await anext(events, None)


async def _close(events: AsyncIterator[TaskEvent]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


TaskOrchestrator = Orchestrator
"""The given design's name for it."""
