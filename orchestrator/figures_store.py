"""The part of a task store's contract that tells amounts, ages and durations.

What is counted moves with the transitions themselves.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from orchestrator.metrics import Counters


class QueueState(NamedTuple):
    """A Celery queue, seen from the store."""

    name: str
    rung: int
    """Tasks whose message is out and that no worker has claimed yet."""
    in_line: int
    """Due tasks beyond those."""
    slots: int
    """Runs that its live workers hold at once."""


class TenantFigures(NamedTuple):
    """What is told of one tenant."""

    counters: Counters
    oldest_due: dict[str, float]


class FiguresStore(Protocol):
    """Tells a tenant's figures, and the queues of the fleet."""

    async def counters(self, tenant: str) -> Counters:
        """Return what has been counted of a tenant's tasks."""
        ...

    async def unfinished(self, tenant: str) -> int:
        """Return how many tasks of a tenant have not ended."""
        ...

    async def tenants(self) -> tuple[str, ...]:
        """Return the tenants that have ever had a task, by name."""
        ...

    async def oldest_due(self, tenant: str) -> dict[str, float]:
        """Return by agent for how many seconds its oldest due task waits for a worker.

        Looks at the tenant's `OLDEST_LOOKED_AT` oldest pending tasks only, so an agent
        with younger ones may be missing.
        """
        ...

    async def queues(self) -> tuple[QueueState, ...]:
        """Return by name the queues that have live workers or tasks that wait."""
        ...

    async def probe(self) -> None:
        """Write something that means nothing.

        Raises:
            StoreUnavailable: it takes no writes (`StoreFull`, `StoreReadOnly`), or
                does not answer.
        """
        ...
