"""The specification of a task as text: what its submitter gave, written once.

Knows no store and nothing of the state that a record keeps beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from pydantic_core import to_json

from conversations.json_value import check_identifier
from conversations.trusted import whole
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
_OWN: Final = ("id", "input", "parameters", "context", "metadata")
"""What each task has for itself."""
_VARIED: Final = (
    "conversation_id",
    "idempotency_key",
    "not_before",
    "after",
    "retry",
    "budget",
    "webhook",
)
"""What few have, and then each its own."""
_EMPTY: Final[dict[str, object]] = {"after": ()}
_MARK: Final = "\0"
"""Stands in no identifier; a tag that holds it has its task written as a whole."""
_TOLD: Final = tuple(name for name in Task.model_fields if name not in BESIDE)
_ALIKE: Final = tuple(name for name in _TOLD if name not in {*_OWN, *_VARIED})
"""What tasks that are submitted one after the other mostly have in common."""
_varied_of: Final = itemgetter(*_VARIED)
_alike_of: Final = itemgetter(*_ALIKE)
_shared_identifiers_of: Final = itemgetter(
    "tenant", "agent_name", "conversation_id", "queue"
)
"""Fields that keys are made of, as the id is; many tasks share them."""
_MOST_SEEN: Final = 1000
_seen: Final[set[str]] = set()
"""Some that were found to be identifiers."""
_BLANK: Final[dict[str, Any]] = dict.fromkeys(Task.model_fields)


def specification(task: Task) -> str:
    """The part of a task that its submitter gave, as JSON."""
    given = vars(task)
    if any(_varied_of(given)):
        return _written(given)
    pieces = _pieces_between(_alike_of(given))
    if len(pieces) != len(_OWN) + 1:
        return _written(given)
    head, before_input, before_parameters, before_context, before_metadata, end = pieces
    return (
        f'{head}"{given["id"]}"{before_input}{_object(given["input"])}'
        f"{before_parameters}{_object(given['parameters'])}"
        f"{before_context}{_object(given['context'])}"
        f"{before_metadata}{_object(given['metadata'])}{end}"
    )


def _object(value: Mapping[str, Any]) -> str:
    return to_json(value).decode() if value else "{}"


def _written(given: Mapping[str, Any]) -> str:
    told = {name: given[name] for name in _TOLD if given[name] is not None}
    return to_json(told, exclude_none=True).decode()


@lru_cache(maxsize=256)
def _pieces_between(alike: tuple[object, ...]) -> list[str]:
    """The text of tasks that are alike, in pieces around what is each one's own."""
    nothing = dict.fromkeys(_TOLD)
    own = dict.fromkeys(_OWN, _MARK)
    fields = nothing | _EMPTY | own | dict(zip(_ALIKE, alike, strict=True))
    return _written(fields).split(to_json(_MARK).decode())


def specified_task(text: str, state: dict[str, object]) -> Task:
    """Read the task of a specification, in a state.

    Raises:
        ValueError: it is none that this release can read.
    """
    given = _FORM.read(text)
    check_identifier(given["id"])
    for value in _shared_identifiers_of(given):
        if value is not None and value not in _seen:
            _see(value)
    return whole(Task, _BLANK | given | state)


def _see(identifier: str) -> None:
    check_identifier(identifier)
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen.add(identifier)
