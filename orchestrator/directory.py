"""Which agents exist, which live workers serve them, and how they fare.

Known agents are written for ever; a worker's announcement expires with the worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from orchestrator.agent_config import AgentInfo, WorkerInfo


class AgentDirectory(Protocol):
    """The registry beside the task store."""

    async def announce(self, worker: WorkerInfo, *, ttl_seconds: float) -> None:
        """Say that a worker lives and what it serves; registers its agents for good."""
        ...

    async def withdraw(self, worker_id: str) -> None:
        """Say that a worker stops; its agents stay known."""
        ...

    async def workers(self) -> tuple[WorkerInfo, ...]:
        """Return the live workers."""
        ...

    async def worker_ids(self) -> tuple[str, ...]:
        """Return the ids of the announced workers; cheap enough for every second."""
        ...

    async def agents(self) -> tuple[AgentInfo, ...]:
        """Return every known agent by name, with its health."""
        ...

    async def find(self, name: str) -> AgentInfo | None:
        """Return one known agent, or None."""
        ...

    async def find_all(self, names: Iterable[str]) -> dict[str, AgentInfo]:
        """Return those of these agents that are known; one look for all of them."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
