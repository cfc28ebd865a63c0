"""Who submitted a task: noted in its metadata under keys that no client may write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pydantic import JsonValue

from orchestrator.http.auth import Caller
from orchestrator.http.problem import Problem
from orchestrator.journal import Step
from orchestrator.said import SUBMITTED_BY, senders_of
from orchestrator.task import Task

RESERVED: Final = "celeriac."
"""Begins the metadata keys that the service writes."""


def stamped(
    metadata: Mapping[str, JsonValue] | None, caller: Caller
) -> dict[str, JsonValue]:
    """Return the metadata with the caller noted.

    Raises:
        Problem: it holds a reserved key.
    """
    given = dict(metadata or {})
    if any(key.startswith(RESERVED) for key in given):
        raise Problem(
            422,
            "invalid_input",
            f"metadata: keys that begin with {RESERVED} are the service's own;"
            " rename yours",
            field="metadata",
        )
    return {**given, SUBMITTED_BY: caller.name}


def shown(metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the metadata without what the service wrote."""
    return {k: v for k, v in metadata.items() if not k.startswith(RESERVED)}


def check_may_decide(task: Task, steps: Iterable[Step], caller: Caller) -> None:
    """Refuse a decision of whoever submitted the task or steered it; an admin may.

    Raises:
        Problem: 403.
    """
    if caller.is_admin or caller.name not in senders_of(task, steps):
        return
    raise Problem(
        403,
        "own_task",
        "a key may not decide on the tasks that it submitted or steered; use another",
    )
