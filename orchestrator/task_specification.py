"""The specification of a task as text: what its submitter gave, written once.

Knows no store and nothing of the state that a record keeps beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from conversations.json_value import check_identifier, loads
from conversations.shared_names import sharing_names
from conversations.trusted import trusted
from orchestrator.task import AwaitedCall, Task, TaskFailure, TaskResult

STATE_FIELDS: Final = {
    "status",
    "attempt",
    "failed_attempts",
    "crashes",
    "suspect",
    "worker",
    "created_at",
    "due_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "running_seconds",
    "pending_reason",
    "awaiting",
    "unknown_outcomes",
    "maybe_paid",
    "webhook_attempts",
    "webhook_delivered_at",
    "webhook_error",
    "result",
    "failure",
}
"""What the store alone writes."""

BESIDE: Final = STATE_FIELDS | {"traceparent"}
"""What a record keeps beside the specification."""

_TYPES: Final[Mapping[str, type]] = {
    "id": str,
    "tenant": str,
    "agent_name": str,
    "agent_version": str,
    "input": dict,
    "parameters": dict,
    "context": dict,
    "conversation_id": str,
    "queue": str,
    "priority": int,
    "idempotency_key": str,
    "expires_seconds": float,
    "deadline_seconds": float,
    "soft_time_limit_seconds": float,
    "time_limit_seconds": float,
    "cache_ttl_seconds": float,
    "tags": list,
    "metadata": dict,
    "webhook": str,
}
"""Fields whose values JSON has as they are, or nearly so."""
_IDENTIFIERS: Final = {"id", "tenant", "agent_name", "conversation_id", "queue"}
_USUAL: Final[Mapping[str, object]] = {
    "when_busy": "enqueue",
    "after": [],
    "after_failure": "fail",
}
"""What other fields hold in most tasks."""
_DEFAULTS: Final = {name: field.default for name, field in Task.model_fields.items()}
_WRITTEN: Final = {
    name for name in Task.model_fields.keys() - BESIDE if _DEFAULTS[name] is not None
}
"""Fields that no text leaves out."""


def specification(task: Task) -> str:
    """The part of a task that its submitter gave, as JSON."""
    return task.model_dump_json(exclude=BESIDE, exclude_none=True)


def specified_task(text: str, state: dict[str, object]) -> Task:
    """Read the task of a specification, in a state.

    Raises:
        ValueError: it is none that this release can read.
    """
    data = loads(text)
    if not _is_usual(data):
        return sharing_names(Task.model_validate(known_fields(Task, data) | state))
    for name in _IDENTIFIERS & data.keys():
        check_identifier(data[name])
    given = _DEFAULTS | data | {"after": (), "tags": tuple(data["tags"])}
    return trusted(Task, **(given | state))


def _is_usual(data: object) -> bool:
    """Whether its values can be taken as they stand: the submit has checked them.

    Others are values of their own, or were written by a release that knows more.
    """
    return (
        isinstance(data, dict)
        and data.keys() >= _WRITTEN
        and all(
            type(value) is _TYPES[name] if name in _TYPES else _is_known(name, value)
            for name, value in data.items()
        )
        and all(type(tag) is str for tag in data["tags"])
    )


def _is_known(name: str, value: object) -> bool:
    return name in _USUAL and value == _USUAL[name]


def known_fields(
    model: type[Task | TaskResult | TaskFailure | AwaitedCall], data: dict[str, Any]
) -> dict[str, Any]:
    """Leave out what a newer release may have added."""
    return {name: data[name] for name in model.model_fields if name in data}
