"""Which tasks are asked for, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from orchestrator.errors import InvalidInput
from orchestrator.task import Task, TaskStatus


@dataclass(frozen=True, kw_only=True)
class TaskFilter:
    """Which tasks to list; None does not filter."""

    status: TaskStatus | None = None
    agent_name: str | None = None
    conversation_id: str | None = None
    tag: str | None = None
    created_after: datetime | None = None
    """Accepted then or later; aware."""
    created_before: datetime | None = None
    """Accepted earlier than that; aware."""

    def __post_init__(self) -> None:
        """Refuse instants that mean another one on each machine.

        Raises:
            InvalidInput: names the field.
        """
        for name in ("created_after", "created_before"):
            at = getattr(self, name)
            if at is not None and at.tzinfo is None:
                raise InvalidInput(
                    name, "has no time zone; give one, as in datetime.now(UTC)"
                )


class TaskPage(NamedTuple):
    """Some tasks, newest first, and where the next page starts."""

    tasks: tuple[Task, ...]
    next_cursor: str | None
