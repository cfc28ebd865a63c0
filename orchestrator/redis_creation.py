"""Calls lua/create.lua for tasks that are submitted, and reads its verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from conversations.errors import ConversationBusy, ConversationNotFound
from orchestrator import redis_keys
from orchestrator.errors import (
    AgentNotFound,
    IdempotencyConflict,
    StoreUnfit,
    UnreadableRecord,
)
from orchestrator.redis_answers import pairs, read_doorbells
from orchestrator.redis_connection import store_errors
from orchestrator.redis_creation_arguments import (
    Arguments,
    Assurance,
    CreationTerms,
    batches,
    request_arguments,
)
from orchestrator.redis_scripts import Begun
from orchestrator.redis_task_scripts import RedisTaskScripts
from orchestrator.store import Creation
from orchestrator.task import Task
from orchestrator.task_record import accepted, instant, task_from_fields

Verdict = list[Any]
"""What became of a request, task id, record, doorbells."""


class RedisCreation(RedisTaskScripts):
    """Accepts tasks, many in one call."""

    _creation_terms: CreationTerms

    async def create(
        self,
        tasks: Sequence[Task],
        *,
        answers: list[Creation | Exception] | None = None,
        known_agents: Collection[str] = (),
        are_new: bool = False,
    ) -> tuple[Creation | Exception, ...]:
        answers = [] if answers is None else answers
        first = len(answers)
        assurance = Assurance(known_agents, are_new)
        if len(tasks) == 1:
            told = request_arguments(
                tasks[0], self._creation_terms, assurance, before=None
            )
            answer = await self._scripts.finish(self._begin(tasks[0], told))
            answers += _read(tasks, answer, are_new)
        else:
            await self._create_many(tasks, assurance, answers)
        for answer in answers[first:]:
            if isinstance(answer, AgentNotFound):
                await self._name_nearest(answers, first)
                break
        return tuple(answers[first:])

    async def _create_many(
        self,
        tasks: Sequence[Task],
        assurance: Assurance,
        answers: list[Creation | Exception],
    ) -> None:
        """Create tasks in calls of a hundred.

        While Redis works on a batch, the one before it is read and the next one is
        written. Only one is under way, which keeps their order.
        """
        are_new = assurance.are_new
        sent: tuple[Sequence[Task], Begun] | None = None
        try:
            for batch, arguments in batches(tasks, self._creation_terms, assurance):
                before = None
                if sent is not None:
                    before = sent[0], await self._scripts.finish(sent[1])
                    sent = None
                try:
                    sent = batch, self._begin(batch[0], arguments)
                    await asyncio.sleep(0)  # now it is on its way
                finally:  # also when time is up: what was answered counts
                    answers += _read(*before, are_new) if before else ()
            if sent is not None:
                answers += _read(sent[0], await self._scripts.finish(sent[1]), are_new)
                sent = None
        finally:
            if sent is not None:
                answers += _read(sent[0], sent[1].withdraw(), are_new)

    async def find_keyed(self, tenant: str, idempotency_key: str) -> str | None:
        key = redis_keys.idempotency(tenant, idempotency_key)
        with store_errors(self._address):
            entry = await self._scripts.read("GET", key)
        return str(entry).partition(" ")[0] if entry else None

    def _begin(self, first: Task, arguments: Arguments) -> Begun:
        call = self._call("create", first.tenant, first.id, arguments)
        return self._scripts.begin(call)

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


def _read(
    tasks: Sequence[Task], answer: list[Any] | None, are_new: bool
) -> list[Creation | Exception]:
    if answer is None:
        return []
    at, verdicts = answer
    created_at = instant(at)
    return [
        _read_verdict(task, created_at, verdict)
        if isinstance(verdict, list)
        else Creation(_begun(task, created_at, verdict, are_new), True, ())
        for task, verdict in zip(tasks, verdicts, strict=True)
    ]


def _begun(task: Task, created_at: datetime, due: str, are_new: bool = False) -> Task:
    due_at = instant(due)
    return accepted(task, created_at=created_at, due_at=due_at, is_blank=are_new)


def _read_verdict(
    task: Task, created_at: datetime, answer: Verdict
) -> Creation | Exception:
    """The creation, or why the task was refused."""
    verdict, task_id, fields, bells = answer
    refusal = _refusal(task, verdict, task_id)
    if refusal is not None:
        return refusal
    if verdict == "created":
        begun = _begun(task, created_at, fields[0])
        return Creation(begun, created=True, doorbells=read_doorbells(bells))
    try:
        earlier = task_from_fields(pairs(fields))
    except UnreadableRecord as exc:  # is no trouble of those that came with it
        return exc
    return Creation(earlier, created=False, doorbells=read_doorbells(bells))


def _refusal(task: Task, verdict: str, told: str) -> Exception | None:
    match verdict:
        case "agent_not_found":
            return AgentNotFound(task.agent_name)
        case "conversation_deleted":
            return ConversationNotFound(task.conversation_id or "")
        case "unfit":
            return StoreUnfit(told)
        case "busy":
            return ConversationBusy(task.conversation_id or "")
        case "conflict":
            return IdempotencyConflict(task.idempotency_key or task.id, task_id=told)
        case _:
            return None
