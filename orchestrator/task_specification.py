"""The specification of a task as text: what its submitter gave, written once.

Knows no store and nothing of the state that a record keeps beside it.
"""

from __future__ import annotations

from typing import Final

from conversations.json_value import check_identifier
from conversations.trusted import trusted
from orchestrator.stored_form import StoredForm
from orchestrator.task import Task

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

_FORM: Final = StoredForm(Task, without=frozenset(BESIDE))
_IDENTIFIERS: Final = ("id", "tenant", "agent_name", "conversation_id", "queue")
"""Fields that keys are made of."""


def specification(task: Task) -> str:
    """The part of a task that its submitter gave, as JSON."""
    data = task.__pydantic_serializer__.to_json(task, exclude=BESIDE, exclude_none=True)
    return data.decode()


def specified_task(text: str, state: dict[str, object]) -> Task:
    """Read the task of a specification, in a state.

    Raises:
        ValueError: it is none that this release can read.
    """
    given = _FORM.read(text)
    for name in _IDENTIFIERS:
        if given[name] is not None:
            check_identifier(given[name])
    return trusted(Task, **given, **state)
