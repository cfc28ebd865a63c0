"""The counters of all tenants in memory; they move under the ledger's lock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from orchestrator.metrics import DROPPED, Count, time_counts
from orchestrator.task import Task


class MemoryCounts:
    """What lua/counters.lua is to the Redis store."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def of(self, tenant: str) -> Counter[str]:
        """A copy of a tenant's own."""
        return self._counts[tenant].copy()

    def add(self, tenant: str, counts: Iterable[Count]) -> None:
        mine = self._counts[tenant]
        for field, amount in counts:
            if field in mine or len(mine) < self._most:
                mine[field] += amount
            else:
                mine[DROPPED] += 1

    def claimed(self, task: Task, *, waited_seconds: float) -> None:
        self.add(task.tenant, time_counts("wait", task.agent_name, waited_seconds))

    def released(self, task: Task, cause: str) -> None:
        self.add(task.tenant, [(f"released {cause} {task.agent_name}", 1)])

    def ended(self, task: Task) -> None:
        agent, seconds = task.agent_name, 0.0
        if task.created_at is not None and task.finished_at is not None:
            seconds = (task.finished_at - task.created_at).total_seconds()
        running = round(task.running_seconds * 1000)
        self.add(task.tenant, time_counts(f"ended {task.status}", agent, seconds))
        self.add(task.tenant, [(f"running_ms {agent}", running)])
