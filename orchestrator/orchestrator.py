"""The one implementation of the public face: submit, steer and read tasks.

Reading is inherited from `task_reader`. Stores first, rings second. Knows stores, queue
and directory by their protocols only; `wiring` names the concrete ones.
"""

from __future__ import annotations

import logging
from collections.abc import (
    Iterable,
    Mapping,
)
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from pydantic import JsonValue

from conversations.service import ConversationService
from orchestrator.chat import AsyncChat
from orchestrator.errors import (
    IdempotencyConflict,
    InvalidTransition,
    ServiceDisabled,
    TaskNotFound,
)
from orchestrator.journal import Action
from orchestrator.parts import OrchestratorParts
from orchestrator.patience import Patience
from orchestrator.request import (
    SubmitOptions,
    SubmitRequest,
    Then,
    parse_decision,
    parse_request,
    parse_requests,
    parse_schedule,
    parse_then,
)
from orchestrator.schedule import Missed, Schedule
from orchestrator.settings import Settings, load_settings
from orchestrator.task import Task
from orchestrator.task_building import request_of
from orchestrator.task_handle import AsyncTaskHandle
from orchestrator.task_submission import TaskSubmission
from orchestrator.wiring import connect

T = TypeVar("T")
logger = logging.getLogger(__name__)

CONFIRM_SECONDS = 4.0
"""How long a delete waits for the worker to confirm its cancel."""


class AsyncOrchestrator(TaskSubmission):
    """Submits tasks and reads them. `async with` closes it."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        parts: OrchestratorParts | None = None,
    ) -> None:
        """Connect to what the settings name; None reads them (`load_settings`).

        Args:
            settings: The configuration.
            parts: Ready-made stores and queue, instead of those of the settings.
        """
        super().__init__(parts or connect(settings or load_settings()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections; tasks go on."""
        await self._parts.aclose()

    @property
    def conversations(self) -> ConversationService:
        """The conversations service.

        Raises:
            ServiceDisabled: it is switched off.
        """
        if self._parts.conversations is None:
            raise ServiceDisabled("conversations")
        return self._parts.conversations

    async def submit(
        self,
        agent: str,
        input: Mapping[str, JsonValue],  # noqa: A002
        **options: Unpack[SubmitOptions],
    ) -> AsyncTaskHandle:
        """Accept a task: once this returns, it will end exactly once.

        Options are the fields of `SubmitRequest`. A submit that equals an earlier one
        (`idempotency_key`, `cache_ttl`) returns the earlier task.

        Raises:
            InvalidInput: a field cannot be taken; nothing is stored.
            RoleForbidden: `input.messages` speaks in a role that is not its client's.
            AgentNotFound: agents are known, but not this one.
            IdempotencyConflict: the key belongs to another request.
            ConversationBusy: with `when_busy="reject"`.
            ServiceDisabled: the configuration switches the service off.
            StoreUnavailable: the task may or may not be stored; submit again with the
                same `idempotency_key` to be sure.
        """
        request = parse_request({"agent": agent, "input": input, **options})
        return (await self._accept([request]))[0]

    def chat(self, agent: str, conversation_id: str | None = None) -> AsyncChat:
        """Return a talk with an agent; without an id it begins a conversation."""
        return AsyncChat(self, agent=agent, conversation_id=conversation_id)

    async def submit_many(
        self,
        requests: Iterable[SubmitRequest | Mapping[str, Any]],
        *,
        then: Then = (),
    ) -> tuple[AsyncTaskHandle, ...]:
        """Accept many tasks at once; all are checked before the first is stored.

        `then` runs after all of them have ended and finds their answers in its input
        as `results`; several run one after the other. Their handles come last. A crash
        of the caller in the middle leaves the first of them accepted; submit again
        with the same idempotency keys to complete the rest.

        An error that leaves some accepted names them, and holds their ids as
        `accepted`, where it is an `OrchestratorError`.

        Raises:
            InvalidInput: names the request by its index; nothing is stored.
            AgentNotFound, IdempotencyConflict, ConversationBusy: of the first refused
                request; the others are accepted.
            StoreUnavailable: what was stored before runs; of the others nothing is
                known.
        """
        parsed = parse_requests(requests, name="requests")
        return await self._accept_chain(parsed, parse_then(then))

    async def execute_async(self, task: Task) -> str:
        """Accept a task made by hand; return its id.

        The task keeps its id; its limits and version are filled in where absent.
        """
        request = request_of(task)
        handle = (await self._accept([request], by_hand=task))[0]
        return handle.id

    async def handle(
        self, task_id: str, *, tenant: str | None = None
    ) -> AsyncTaskHandle:
        """Return a handle on a task that was submitted elsewhere.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        task = await self.get(task_id, tenant=tenant)
        return AsyncTaskHandle(self, task)

    async def delete(self, task_id: str, *, tenant: str | None = None) -> None:
        """Forget a task, its steps and events; one that has not ended is cancelled.

        Raises:
            TaskNotFound: none of this tenant has the id.
            InvalidTransition: its worker has not confirmed the cancel in time; ask
                again.
        """
        task = await self.cancel(task_id, tenant=tenant)
        patience = Patience(CONFIRM_SECONDS)
        after = -1
        while not task.status.is_terminal and patience.left_seconds > 0:
            events = await self.read_events(
                task_id, after=after, wait_seconds=patience.left_seconds, tenant=tenant
            )
            after = events[-1].sequence if events else after
            task = await self.get(task_id, tenant=tenant)
        await self._bounded(self._parts.store.delete(*self._key(tenant, task_id)))

    async def resolve(
        self,
        task_id: str,
        call_id: str,
        decision: Action | Literal["done", "run", "refuse", "fail"],
        *,
        output: JsonValue = None,
        note: str = "",
        tenant: str | None = None,
    ) -> Task:
        """Decide on what a waiting task asks; the task goes on.

        A call that needs approval has an id that holds what it is called with, so a
        decision never counts for other arguments.

        Args:
            task_id: A waiting task.
            call_id: One of its `awaiting` calls.
            decision: `done`: go on with `output`; `run`: it was not done, do it;
                `refuse`: of a call that needs approval, go on without it; `fail`: end
                the task.
            output: What the call gave, with `done`.
            note: Why, for those who read the task later.
            tenant: Whose task it is.

        Raises:
            InvalidInput: the task awaits no decision on this call, or the decision
                cannot be taken.
            TaskNotFound: none of this tenant has the id.
        """
        made = parse_decision(call_id, decision, output=output, note=note)
        started = monotonic()
        answer = await self._bounded(
            self._parts.store.resolve(*self._key(tenant, task_id), made)
        )
        await self._ring(answer.doorbells, since=started)
        return answer.task

    async def retry(
        self,
        task_id: str,
        *,
        tenant: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> AsyncTaskHandle:
        """Submit an ended task's request again, as a new task; once for each task.

        A second retry of the same task returns the first one's handle. What it
        needs the answers of is retried before it, where it ended without one.
        `metadata` is written over that of the first request.

        Raises:
            TaskNotFound: none of this tenant has the id.
            InvalidTransition: it has not ended.
        """
        task = await self.get(task_id, tenant=tenant)
        if not task.status.is_terminal:
            raise InvalidTransition(
                task.id, status=task.status.value, wanted="submitted again"
            )
        retries: dict[str, str] = {}
        needed = [task]
        while True:
            task = needed[-1]
            again = await self._retry_of(task)
            if again is None:
                after, lacking = await self._waits(task, retries)
                if lacking:
                    needed += lacking
                    continue
                again = await self._accept_again(task, after, metadata)
            needed.pop()
            if not needed:
                return again
            retries[task.id] = again.id

    async def _retry_of(self, task: Task) -> AsyncTaskHandle | None:
        """Find an earlier retry: what it needs must not be done again once more."""
        found = self._parts.store.find_keyed(task.tenant, _retry_key(task))
        task_id = await self._bounded(found)
        if task_id is not None:
            with suppress(TaskNotFound):
                return await self.handle(task_id, tenant=task.tenant)
        return None

    async def _waits(
        self, task: Task, retries: Mapping[str, str]
    ) -> tuple[tuple[str, ...], list[Task]]:
        """Return what a task's retry waits for, and those of it to be retried before.

        It waits for the same tasks, or for the retries of those without an answer.
        """
        if task.after_failure != "fail":
            return task.after, []
        after, lacking = [], []
        for each in task.after:
            awaited_id = each
            while awaited_id in retries:
                awaited_id = retries[awaited_id]
            after.append(awaited_id)
            with suppress(TaskNotFound):
                awaited = await self.get(awaited_id, tenant=task.tenant)
                if awaited.status.is_terminal and awaited.result is None:
                    lacking.append(awaited)
        return tuple(after), lacking

    async def _accept_again(
        self,
        task: Task,
        after: tuple[str, ...],
        metadata: Mapping[str, JsonValue] | None,
    ) -> AsyncTaskHandle:
        request = request_of(task).model_copy(
            update={
                "idempotency_key": _retry_key(task),
                "cache_ttl": None,
                "not_before": None,
                "traceparent": None,
                "after": after,
                "metadata": {**task.metadata, **(metadata or {})},
            }
        )
        try:
            return (await self._accept([request]))[0]
        except IdempotencyConflict as exc:  # retried meanwhile, with other metadata
            known = (await self.get(exc.task_id, tenant=task.tenant)).metadata
            request = request.model_copy(update={"metadata": known})
            return (await self._accept([request]))[0]

    async def schedule(
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
        """Submit a task at each tick of a cron expression, once for each tick.

        Replaces an earlier schedule of the id. `missed` says which ticks run later
        when nothing was up to see them: the latest `one`, `all`, or none (`skip`).

        Raises:
            InvalidInput: a field cannot be taken; nothing is stored.
            ServiceDisabled: the configuration switches the service off.
        """
        request = parse_request({"agent": agent, "input": input, **options})
        self._agents.check_services([request])
        infos = await self._bounded(self._agents.look_up([request]))
        (task,) = self._agents.build([request], infos)
        made = parse_schedule(
            {
                "id": schedule_id,
                "cron": cron,
                "time_zone": time_zone,
                "missed": missed,
                "task": task.model_copy(update={"traceparent": None}),
            }
        )
        return await self._bounded(self._parts.store.put_schedule(made))

    async def unschedule(self, schedule_id: str, *, tenant: str | None = None) -> bool:
        """End a schedule; tell whether there was one. Its tasks go on."""
        store = self._parts.store
        return await self._bounded(store.drop_schedule(self._of(tenant), schedule_id))


def _retry_key(task: Task) -> str:
    return f"retry:{task.id}"
