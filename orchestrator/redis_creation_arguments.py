"""How tasks that are submitted are told to lua/create.lua.

What most tasks of a call have in common is told once, what few of them have by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from conversations.conversation import is_hidden_id
from conversations.record import write_message
from conversations.redaction import Redact
from orchestrator import redis_keys
from orchestrator.said import said_with
from orchestrator.store_limits import PUSHED_CANCEL_SECONDS
from orchestrator.task import Task
from orchestrator.task_record import cache_hash, milliseconds, request_hash
from orchestrator.task_specification import specification
from orchestrator.webhook import receiver_of

Arguments = Sequence[str | int]

_kind_of: Final = itemgetter("agent_name", "queue", "priority", "time_limit_seconds")
"""What most tasks of a call have in common, as lua/create.lua takes it."""
MOST_TASKS: Final = 100
"""Of one call: what they share is looked at once, and Redis serves others between."""
MOST_BYTES: Final = 1024 * 1024
"""Of one call with more than one task."""


class CreationTerms(NamedTuple):
    """What is the same for all tasks of a store."""

    idempotency_ttl_seconds: float
    """How long a key is kept after its task's end."""
    limits: str
    """Of a conversation that a turn creates, as lines."""
    hidden_limits: str
    """Of one that only responses continue."""
    known_agents: frozenset[str]
    redact: Redact | None


class Assurance(NamedTuple):
    """What the caller of `TaskStore.create` knows."""

    known_agents: Collection[str]
    are_new: bool


def request_arguments(
    task: Task, terms: CreationTerms, assurance: Assurance, *, before: Task | None
) -> list[str | int]:
    """How a task is told, behind another one's or as the first of a call."""
    given = vars(task)
    rare: list[str | int] = [] if assurance.are_new else ["named", 1]
    if any(_rare_of(given)):
        for name, write in _RARE.items():
            if given[name]:
                rare += write(task, terms)
    told = str(len(rare) // 2)
    if before is None:
        return [specification(task), f"{told} {_kind(given, terms, assurance)}", *rare]
    if _kind_of(given) != _kind_of(vars(before)):
        told = f"{told} {_kind(given, terms, assurance)}"
    return [given["id"], specification(task), told, *rare]


def batches(
    tasks: Sequence[Task], terms: CreationTerms, assurance: Assurance
) -> Iterator[tuple[list[Task], list[str | int]]]:
    """Yield tasks of one tenant and the arguments of the call that creates them.

    In order, and made when they are asked for.
    """
    batch, arguments, size = list[Task](), list[str | int](), 0
    for task in tasks:
        before = batch[-1] if batch else None
        told = request_arguments(task, terms, assurance, before=before)
        length = sum(len(text) for text in told if isinstance(text, str))
        full = len(batch) >= MOST_TASKS or size + length > MOST_BYTES
        if batch and (full or batch[0].tenant != task.tenant):
            yield batch, arguments
            batch, arguments, size = [], [], 0
            told = request_arguments(task, terms, assurance, before=None)
        batch.append(task)
        arguments += told
        size += length
    if batch:
        yield batch, arguments


def _kind(given: Mapping[str, Any], terms: CreationTerms, assurance: Assurance) -> str:
    agent, limit = given["agent_name"], given["time_limit_seconds"]
    is_known = agent in assurance.known_agents or agent in terms.known_agents
    limit_ms = "" if limit is None else milliseconds(limit)
    queue, priority = given["queue"], given["priority"]
    return f"{agent} {queue} {priority} {int(is_known)} {limit_ms}"


def _conversation(task: Task, terms: CreationTerms) -> Arguments:
    hides = is_hidden_id(task.conversation_id)
    return (
        *("conversation", task.conversation_id or ""),
        *("when_busy", task.when_busy),
        *("asked", write_message(said_with(task, terms.redact))),
        *("limits", terms.hidden_limits if hides else terms.limits),
        *("pushed", milliseconds(PUSHED_CANCEL_SECONDS)),
    )


def _idempotency(task: Task, terms: CreationTerms) -> Arguments:
    key = redis_keys.idempotency(task.tenant, task.idempotency_key or "")
    return (
        *("hash", request_hash(task)),
        *("idempotency", key),
        *("idempotency_ms", milliseconds(terms.idempotency_ttl_seconds)),
    )


def _cache(task: Task, _: CreationTerms) -> Arguments:
    key = redis_keys.cache(task.tenant, cache_hash(task))
    return ("cache", key, "cache_ms", milliseconds(task.cache_ttl_seconds or 0))


def _not_before(task: Task, _: CreationTerms) -> Arguments:
    instant = task.not_before.timestamp() if task.not_before else 0
    return ("not_before", milliseconds(instant))


def _tags(task: Task, _: CreationTerms) -> Arguments:
    keys = [redis_keys.listing(task.tenant, "tag", tag) for tag in set(task.tags)]
    return [part for key in keys for part in ("tag", key)]


_RARE: Final[Mapping[str, Callable[[Task, CreationTerms], Arguments]]] = {
    "conversation_id": _conversation,
    "idempotency_key": _idempotency,
    "cache_ttl_seconds": _cache,
    "not_before": _not_before,
    "tags": _tags,
    "expires_seconds": lambda task, _: (
        "expires",
        milliseconds(task.expires_seconds or 0),
    ),
    "deadline_seconds": lambda task, _: (
        "deadline",
        milliseconds(task.deadline_seconds or 0),
    ),
    "after": lambda task, _: [part for each in task.after for part in ("after", each)],
    "webhook": lambda task, _: ("webhook", receiver_of(task.webhook or "")),
    "traceparent": lambda task, _: ("traceparent", task.traceparent or ""),
}
"""By a task's field, what is told where it has one."""
_rare_of: Final = itemgetter(*_RARE)
