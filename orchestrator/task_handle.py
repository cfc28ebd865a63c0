"""A task in the caller's hand: an id and the orchestrator to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from orchestrator.events import TaskEvent
from orchestrator.task import Task, TaskResult, TaskStatus

if TYPE_CHECKING:
    from orchestrator.task_submission import TaskSubmission


class AsyncTaskHandle:
    """A task in the caller's hand."""

    __slots__ = ("_orchestrator", "accepted", "created", "id", "tenant", "warning")

    def __init__(
        self,
        orchestrator: TaskSubmission,
        task: Task,
        *,
        created: bool = False,
        warning: str | None = None,
    ) -> None:
        self._orchestrator = orchestrator
        self.tenant: str = vars(task)["tenant"]
        self.id: str = vars(task)["id"]
        self.accepted = task
        """The record as it stood when this handle was made."""
        self.created = created
        """False when an equal request had been accepted before."""
        self.warning = warning
        """What stands in the way of the task at acceptance, if anything."""

    def __repr__(self) -> str:
        return f"<task {self.id}>"

    async def get(self) -> Task:
        """Return the record."""
        return await self._orchestrator.get(self.id, tenant=self.tenant)

    async def status(self) -> TaskStatus:
        """Return where it stands."""
        return (await self.get()).status

    async def result(
        self,
        timeout: float | None = None,
        *,
        on_event: Callable[[TaskEvent], None] | None = None,
    ) -> TaskResult:
        """Wait for the answer; see `AsyncOrchestrator.result`."""
        return await self._orchestrator.result(
            self.id, timeout=timeout, on_event=on_event, tenant=self.tenant
        )

    def events(self, after: int = -1) -> AsyncIterator[TaskEvent]:
        """Yield events beyond `after`, live, up to the end event."""
        return self._orchestrator.events(self.id, after=after, tenant=self.tenant)

    async def cancel(self) -> Task:
        """Ask for its end."""
        return await self._orchestrator.cancel(self.id, tenant=self.tenant)
