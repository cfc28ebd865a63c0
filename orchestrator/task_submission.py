"""How requests become accepted tasks, in pieces, and how tasks are cancelled.

Stores first, rings second, whatever interrupts: who was stored is rung for. Knows
stores, queue and directory by their protocols only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from orchestrator.acceptance import KnownAgents
from orchestrator.errors import (
    IdempotencyConflict,
    InvalidInput,
    QueueUnavailable,
    TaskNotFound,
    tell_accepted,
)
from orchestrator.parts import OrchestratorParts
from orchestrator.request import SubmitRequest
from orchestrator.store import Creation, Doorbell
from orchestrator.task import MOST_AFTER, Task
from orchestrator.task_handle import AsyncTaskHandle
from orchestrator.task_reader import TaskReader

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 4.75
"""How long a submit or cancel may take with its doorbell, which then rings on alone."""
_TOO_LATE = (
    "the broker did not take the message in time; the task is stored and is rung for"
    " again once it does"
)
_BOUNDED_TASKS = 1000
"""So many tasks have the store's time limit for themselves."""


class TaskSubmission(TaskReader):
    """The part of the orchestrator that accepts and cancels tasks."""

    def __init__(self, parts: OrchestratorParts) -> None:
        super().__init__(parts)
        self._agents = KnownAgents(parts)

    async def cancel(self, task_id: str, *, tenant: str | None = None) -> Task:
        """Ask for the end of a task; return it as it now stands.

        Raises:
            TaskNotFound: none of this tenant has the id.
        """
        started = monotonic()
        answer = await self._bounded(
            self._parts.store.cancel(*self._key(tenant, task_id))
        )
        await self._ring(answer.doorbells, since=started)
        return answer.task

    async def _accept(
        self, requests: Sequence[SubmitRequest], *, by_hand: Task | None = None
    ) -> tuple[AsyncTaskHandle, ...]:
        self._agents.check_services(requests)
        answers: list[Creation | Exception] = []
        unrung: str | None = None
        started, create = monotonic(), self._parts.store.create
        try:
            with self._limit.begin():
                infos = await self._agents.look_up(requests)
                tasks = self._agents.build(requests, infos, by_hand=by_hand)
                known = [name for name, info in infos.items() if info is not None]
                await create(
                    tasks[:_BOUNDED_TASKS],
                    answers=answers,
                    known_agents=known,
                    are_new=by_hand is None,
                )
            for start in range(_BOUNDED_TASKS, len(tasks), _BOUNDED_TASKS):
                started, some = monotonic(), tasks[start : start + _BOUNDED_TASKS]
                with self._limit.begin():
                    await create(
                        some, answers=answers, known_agents=known, are_new=True
                    )
            await self._accept_as_before(requests, tasks, answers)
        except Exception as exc:
            tell_accepted(exc, _ids(answers), of=len(requests))
            raise
        finally:
            creations = [each for each in answers if isinstance(each, Creation)]
            bells = [bell for made in creations for bell in made.doorbells]
            if bells:
                unrung = await self._ring(bells, since=started)
        for answer in answers:
            if isinstance(answer, Exception):
                tell_accepted(answer, _ids(answers), of=len(requests))
                raise answer
        return tuple(
            [
                AsyncTaskHandle(
                    self,
                    creation.task,
                    created=creation.created,
                    warning=(unrung if creation.doorbells else None)
                    or self._agents.warn_unserved(creation.task, infos),
                )
                for creation in creations
            ]
        )

    async def _accept_as_before(
        self,
        requests: Sequence[SubmitRequest],
        tasks: Sequence[Task],
        answers: list[Creation | Exception],
    ) -> None:
        """Ask again for repeats that meet their key with other limits.

        What a request leaves to its agent may have changed since: it is the same one.
        """
        for place, answer in enumerate(answers):
            if not isinstance(answer, IdempotencyConflict):
                continue
            left = _left_to_the_agent(requests[place])
            task, store = tasks[place], self._parts.store
            with self._limit.begin(), suppress(TaskNotFound):
                before = vars(await store.get(task.tenant, answer.task_id))
                as_before = {name: before[name] for name in left}
                again = task.model_copy(update=as_before)
                (answers[place],) = await store.create([again])

    async def _accept_chain(
        self, requests: Sequence[SubmitRequest], chain: Sequence[SubmitRequest]
    ) -> tuple[AsyncTaskHandle, ...]:
        """Accept requests, then what runs after all of them, one after the other."""
        if chain:
            self._check_chain(requests, chain)
        handles = await self._accept(requests)
        first = tuple(handle.id for handle in handles)
        for request in chain:
            after = tuple(dict.fromkeys((*request.after, *first)))
            following = request.model_copy(update={"after": after})
            try:
                (handle,) = await self._accept([following])
            except Exception as exc:
                accepted = [handle.id for handle in handles]
                tell_accepted(exc, accepted, of=len(requests) + len(chain))
                raise
            handles, first = (*handles, handle), (handle.id,)
        return handles

    def _check_chain(
        self, requests: Sequence[SubmitRequest], chain: Sequence[SubmitRequest]
    ) -> None:
        """Refuse what could not be stored or read once the first are.

        Raises:
            InvalidInput: says why.
        """
        for index, request in enumerate(chain):
            before = len(requests) if index == 0 else 1
            most = MOST_AFTER - len(request.after)
            if before > most:
                raise InvalidInput(
                    f"then[{index}]",
                    f"would wait for {before + len(request.after)} tasks, at most"
                    f" {MOST_AFTER}; join them in groups",
                )
        if len({self._of(request.tenant) for request in (*requests, *chain)}) > 1:
            raise InvalidInput("then", "must be of the tenant of what it waits for")

    async def _ring(self, doorbells: Sequence[Doorbell], *, since: float) -> str | None:
        """Ring; return what stood in the way, if anything did."""
        if not doorbells:
            return None
        try:
            async with asyncio.timeout(since + ANSWER_SECONDS - monotonic()):
                await self._parts.queue.enqueue(doorbells)
        except (QueueUnavailable, TimeoutError) as exc:
            error = str(exc) or _TOO_LATE
            logger.warning("doorbell not rung yet", extra={"error": error})
            return error
        return None


def _left_to_the_agent(request: SubmitRequest) -> tuple[str, ...]:
    given = {
        "soft_time_limit_seconds": request.soft_time_limit,
        "time_limit_seconds": request.time_limit,
    }
    return tuple(name for name, limit in given.items() if limit is None)


def _ids(answers: Sequence[Creation | Exception]) -> list[str]:
    return [each.task.id for each in answers if isinstance(each, Creation)]
