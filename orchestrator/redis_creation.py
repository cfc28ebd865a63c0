"""How a submit is told to lua/create.lua, and how its verdict reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from conversations.conversation import ConversationConfig
from conversations.errors import ConversationBusy, ConversationNotFound
from conversations.record import write_limits, write_message
from conversations.redaction import Redact, redacted
from orchestrator import redis_keys
from orchestrator.errors import AgentNotFound, IdempotencyConflict, StoreUnfit
from orchestrator.redis_answers import pairs, read_doorbells
from orchestrator.redis_listing import listing_keys
from orchestrator.store import Creation
from orchestrator.store_limits import PUSHED_CANCEL_SECONDS
from orchestrator.task import Task
from orchestrator.task_record import (
    accepted,
    cache_hash,
    instant,
    milliseconds,
    request_hash,
    specification,
    task_from_fields,
    user_message,
)

Answer = tuple[str, str, Sequence[str], Sequence[Sequence[str]]]
"""Verdict, task id, record, doorbells."""


def creation_keys(task: Task) -> list[str]:
    """The keys beyond those of every task script."""
    cached = task.cache_ttl_seconds is not None
    return [
        redis_keys.AGENTS,
        redis_keys.idempotency(task.tenant, task.idempotency_key or ""),
        redis_keys.cache(task.tenant, cache_hash(task) if cached else ""),
        *listing_keys(task),
    ]


def creation_arguments(
    task: Task,
    *,
    idempotency_ttl_seconds: float,
    known: bool,
    conversation_config: ConversationConfig,
    redact: Redact | None,
) -> list[str | int]:
    """The arguments beyond those of every task script."""
    not_before = task.not_before.timestamp() if task.not_before else None
    return [
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
        request_hash(task) if task.idempotency_key else "",
        milliseconds(idempotency_ttl_seconds),
        _optional(task.cache_ttl_seconds),
        int(known),
        *_turn_arguments(task, conversation_config, redact),
        milliseconds(PUSHED_CANCEL_SECONDS),
        "1" if task.webhook else "",
        *task.after,
    ]


def _turn_arguments(
    task: Task, config: ConversationConfig, redact: Redact | None
) -> tuple[str, str]:
    if task.conversation_id is None:
        return "", ""
    asked = redacted(user_message(task), redact)
    return write_message(asked), "\n".join(write_limits(config))


def read_creation(
    task: Task, answer: Answer, *, known_agents: Collection[str]
) -> Creation | Exception:
    """The creation, or why the task was refused."""
    verdict, task_id, fields, bells = answer
    match verdict:
        case "agent_not_found":
            nearest = get_close_matches(task.agent_name, sorted(known_agents))
            return AgentNotFound(task.agent_name, nearest=nearest)
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
