"""Who submitted a task: noted in its metadata under keys that no client may write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from orchestrator.http.auth import Caller
from orchestrator.http.problem import Problem
from orchestrator.task import Task

RESERVED: Final = "celeriac."
"""Begins the metadata keys that the service writes."""
SUBMITTED_BY: Final = "celeriac.submitted_by"


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


def check_may_decide(task: Task, caller: Caller) -> None:
    """Refuse a decision of whoever submitted the task; an admin may.

    Raises:
        Problem: 403.
    """
    if caller.is_admin or task.metadata.get(SUBMITTED_BY) != caller.name:
        return
    raise Problem(
        403,
        "own_task",
        "a key may not decide on the tasks that it submitted; use another key",
    )
