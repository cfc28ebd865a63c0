"""How a submit is told to lua/create.lua, and how its verdict reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from conversations.errors import ConversationBusy, ConversationNotFound
from conversations.record import write_message
from conversations.redaction import Redact, redacted
from orchestrator import redis_keys
from orchestrator.errors import AgentNotFound, IdempotencyConflict, StoreUnfit
from orchestrator.prompt import question_of
from orchestrator.redis_answers import pairs, read_doorbells
from orchestrator.redis_connection import store_errors
from orchestrator.redis_listing import listing_keys
from orchestrator.redis_task_scripts import RedisTaskScripts
from orchestrator.store import Creation, Doorbell
from orchestrator.store_limits import PUSHED_CANCEL_SECONDS
from orchestrator.task import Task
from orchestrator.task_record import (
    accepted,
    cache_hash,
    instant,
    milliseconds,
    request_hash,
    task_from_fields,
)
from orchestrator.task_specification import specification
from orchestrator.webhook import receiver_of

Answer = tuple[str, str, Sequence[str], Sequence[Sequence[str]]]
"""Verdict, task id, record, doorbells."""

_MOST_TASKS: Final = 100
"""Of one call: what they share is looked at once, and Redis serves others between."""
_MOST_BYTES: Final = 1024 * 1024
"""Of one call with more than one task."""
_TURNS_TO_SEND: Final = 3
"""Turns of the loop after which a call is on its way."""


class CreationTerms(NamedTuple):
    """What is the same for all tasks of a store."""

    arguments: tuple[str | int, ...]
    """As `shared_arguments` gives them."""
    known_agents: frozenset[str]
    redact: Redact | None


class _Batch(NamedTuple):
    """Tasks of one tenant that one call creates."""

    tasks: list[Task]
    arguments: list[str | int]


class _Sent(NamedTuple):
    """A call that Redis works on."""

    batch: _Batch
    answer: asyncio.Task[list[Any]]


class RedisCreation(RedisTaskScripts):
    """Accepts tasks, many in one call."""

    _creation_terms: CreationTerms

    async def create(
        self,
        tasks: Sequence[Task],
        *,
        answers: list[Creation | Exception] | None = None,
    ) -> tuple[Creation | Exception, ...]:
        answers = [] if answers is None else answers
        first = len(answers)
        sent: _Sent | None = None
        try:
            # While Redis works on a batch, the one before it is read and the next one
            # is written.
            for batch in _batches(tasks, self._creation_terms):
                if len(batch.tasks) == len(tasks):
                    answers += self._read(batch, await self._send(batch))
                    break
                answer = await sent.answer if sent is not None else []
                before = sent
                sent = _Sent(batch, asyncio.create_task(self._send(batch)))
                try:
                    for _ in range(_TURNS_TO_SEND):
                        await asyncio.sleep(0)
                finally:  # also when time is up: what was answered counts
                    answers += self._read(before.batch, answer) if before else ()
            if sent is not None:
                answers += self._read(sent.batch, await sent.answer)
        finally:
            if sent is not None:
                sent.answer.cancel()
        await self._name_nearest(answers, first)
        return tuple(answers[first:])

    async def _send(self, batch: _Batch) -> list[Any]:
        tenant = batch.tasks[0].tenant
        call = self._call(
            "create", tenant, "", batch.arguments, more_keys=[redis_keys.AGENTS]
        )
        answer: list[Any] = await self._scripts.run(*call)
        return answer

    def _read(self, batch: _Batch, answer: list[Any]) -> list[Creation | Exception]:
        verdicts, bells = answer
        creations = [
            _read_creation(task, verdict)
            for task, verdict in zip(batch.tasks, verdicts, strict=True)
        ]
        return _with_doorbells(creations, read_doorbells(bells))

    async def _name_nearest(
        self, answers: list[Creation | Exception], first: int
    ) -> None:
        """Have errors of agents that are not known name those that might be meant."""
        known: list[str] = []
        for place in range(first, len(answers)):
            answer = answers[place]
            if isinstance(answer, AgentNotFound):
                known = known or await self._known_agents()
                nearest = get_close_matches(answer.name, known)
                answers[place] = AgentNotFound(answer.name, nearest=nearest)

    async def _known_agents(self) -> list[str]:
        with store_errors(self._address):
            registered = await self._client.hkeys(redis_keys.AGENTS)
        return sorted({*self._creation_terms.known_agents, *registered})


def _batches(tasks: Sequence[Task], terms: CreationTerms) -> Iterator[_Batch]:
    """Yield what to call the script with, in order, made when it is asked for."""
    batch, size = _Batch([], [*terms.arguments]), 0
    for task in tasks:
        request = _request(task, terms)
        length = len(str(request[1]))  # its specification, by far the longest
        full = len(batch.tasks) >= _MOST_TASKS or size + length > _MOST_BYTES
        if batch.tasks and (full or batch.tasks[0].tenant != task.tenant):
            yield batch
            batch, size = _Batch([], [*terms.arguments]), 0
        batch.tasks.append(task)
        batch.arguments.extend(request)
        size += length
    if batch.tasks:
        yield batch


def shared_arguments(
    *,
    idempotency_ttl_seconds: float,
    limits: tuple[str, str, str],
    hidden_limits: tuple[str, str, str],
) -> tuple[str | int, ...]:
    """Return what lua/create.lua takes once, behind the arguments of every script.

    Args:
        idempotency_ttl_seconds: How long a key is kept after its task's end.
        limits: Of a conversation that a turn creates.
        hidden_limits: Of one that only responses continue.
    """
    return (
        milliseconds(idempotency_ttl_seconds),
        milliseconds(PUSHED_CANCEL_SECONDS),
        "\n".join(limits),
        "\n".join(hidden_limits),
    )


def _request(task: Task, terms: CreationTerms) -> list[str | int]:
    """A task as `next_request` of lua/create.lua takes it."""
    key, cached = task.idempotency_key, task.cache_ttl_seconds is not None
    not_before = task.not_before.timestamp() if task.not_before else None
    listings = listing_keys(task)
    return [
        task.id,
        specification(task),
        task.agent_name,
        task.queue,
        task.priority,
        task.conversation_id or "",
        task.when_busy,
        _optional(not_before),
        _optional(task.expires_seconds),
        _optional(task.deadline_seconds),
        _optional(task.time_limit_seconds),
        request_hash(task) if key else "",
        redis_keys.idempotency(task.tenant, key) if key else "",
        _optional(task.cache_ttl_seconds),
        redis_keys.cache(task.tenant, cache_hash(task)) if cached else "",
        int(task.agent_name in terms.known_agents),
        _asked(task, terms.redact),
        receiver_of(task.webhook) if task.webhook else "",
        task.traceparent or "",
        len(listings),
        *listings,
        len(task.after),
        *task.after,
    ]


def _asked(task: Task, redact: Redact | None) -> str:
    if task.conversation_id is None:
        return ""
    return write_message(redacted(question_of(task.input), redact))


def _with_doorbells(
    creations: list[Creation | Exception], bells: tuple[Doorbell, ...]
) -> list[Creation | Exception]:
    """Give bells that belong to no task to whoever can carry them."""
    for index, made in enumerate(creations) if bells else ():
        if isinstance(made, Creation):
            creations[index] = made._replace(doorbells=(*made.doorbells, *bells))
            break
    return creations


def _read_creation(task: Task, answer: Answer) -> Creation | Exception:
    """The creation, or why the task was refused."""
    verdict, task_id, fields, bells = answer
    match verdict:
        case "agent_not_found":
            return AgentNotFound(task.agent_name)
        case "conversation_deleted":
            return ConversationNotFound(task.conversation_id or "")
        case "unfit":
            return StoreUnfit(task_id)
        case "busy":
            return ConversationBusy(task.conversation_id or "")
        case "conflict":
            key = task.idempotency_key or task.id
            return IdempotencyConflict(key, task_id=task_id)
        case _:
            return Creation(
                task=_created(task, pairs(fields), verdict=verdict),
                created=verdict == "created",
                doorbells=read_doorbells(bells),
            )


def _created(task: Task, fields: Mapping[str, str], *, verdict: str) -> Task:
    if verdict != "created":
        return task_from_fields(fields)
    created_at, due_at = instant(fields["created_ms"]), instant(fields["due_ms"])
    return accepted(task, created_at=created_at, due_at=due_at)


def _optional(seconds: float | None) -> str:
    return "" if seconds is None else str(milliseconds(seconds))
