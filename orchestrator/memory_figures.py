"""The part of the in-memory task store that reads figures; it changes nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from itertools import islice

from orchestrator.figures_store import QueueState
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.metrics import Counters
from orchestrator.store_limits import OLDEST_LOOKED_AT
from orchestrator.task import TaskStatus


class MemoryFigures:
    """Reads counters, queue lengths and ages."""

    _ledger: MemoryLedger
    _lock: AbstractContextManager[object]

    async def counters(self, tenant: str) -> Counters:
        with self._lock:
            unfinished = Counter(
                f"tasks {entry.task.status} {entry.task.agent_name}"
                for entry in self._ledger.entries.values()
                if entry.task.tenant == tenant and not entry.task.status.is_terminal
            )
            return Counters(self._ledger.counts.of(tenant) | unfinished)

    async def unfinished(self, tenant: str) -> int:
        with self._lock:
            return sum(
                entry.task.tenant == tenant and not entry.task.status.is_terminal
                for entry in self._ledger.entries.values()
            )

    async def tenants(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(sorted(self._ledger.tenants))

    async def oldest_due(self, tenant: str) -> dict[str, float]:
        with self._lock:
            now, waits = self._ledger.now, dict[str, float]()
            mine = (
                entry
                for entry in self._ledger.entries.values()
                if entry.task.tenant == tenant
                and entry.task.status is TaskStatus.PENDING
            )
            for entry in islice(mine, OLDEST_LOOKED_AT):
                due_at, agent = entry.task.due_at, entry.task.agent_name
                if due_at is not None and due_at <= now and not entry.held:
                    seconds = (now - due_at).total_seconds()
                    waits[agent] = max(waits.get(agent, 0.0), seconds)
            return waits

    async def queues(self) -> tuple[QueueState, ...]:
        with self._lock:
            return self._ledger.dispatch.states()

    async def probe(self) -> None:
        """Memory takes writes."""
