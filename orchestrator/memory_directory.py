"""The agent directory in the memory of one process."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from orchestrator.agent_config import AgentConfig, AgentHealth, AgentInfo, WorkerInfo
from orchestrator.task import TaskFailure, TaskStatus


def utc_now() -> datetime:
    """The clock of stores in memory."""
    return datetime.now(UTC)


class InMemoryAgentDirectory:
    """Agents and workers of one process; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._configs: dict[str, AgentConfig] = {}
        self._health: dict[str, AgentHealth] = {}
        self._workers: dict[str, tuple[WorkerInfo, datetime]] = {}

    async def announce(self, worker: WorkerInfo, *, ttl_seconds: float) -> None:
        with self._lock:
            now = utc_now()
            seen = worker.model_copy(update={"seen_at": now}, deep=True)
            self._workers[worker.id] = (seen, now + timedelta(seconds=ttl_seconds))
            self._configs.update({agent.name: agent for agent in seen.agents})

    async def withdraw(self, worker_id: str) -> None:
        with self._lock:
            self._workers.pop(worker_id, None)

    async def workers(self) -> tuple[WorkerInfo, ...]:
        return tuple(worker.model_copy(deep=True) for worker in self._live())

    async def worker_ids(self) -> tuple[str, ...]:
        return tuple(worker.id for worker in self._live())

    async def agents(self) -> tuple[AgentInfo, ...]:
        with self._lock:
            return tuple(self._info(name) for name in sorted(self._configs))

    async def find(self, name: str) -> AgentInfo | None:
        with self._lock:
            return self._info(name) if name in self._configs else None

    async def find_all(self, names: Iterable[str]) -> dict[str, AgentInfo]:
        with self._lock:
            return {name: self._info(name) for name in names if name in self._configs}

    async def aclose(self) -> None:
        """Nothing is open."""

    def slots(self, queue: str) -> int:
        """Slots of the live workers that take from a queue."""
        return sum(w.slots for w in self._live() if queue in w.all_queues)

    def queues(self) -> frozenset[str]:
        """Queues that live workers take from."""
        return frozenset(queue for w in self._live() for queue in w.all_queues)

    def count(self) -> int:
        """Live workers."""
        return len(self._live())

    def names(self) -> frozenset[str]:
        """The known agents, for a task store that shares this memory."""
        with self._lock:
            return frozenset(self._configs)

    def count_run(
        self, agent_name: str, status: TaskStatus, failure: TaskFailure | None
    ) -> None:
        """Note how a run ended, as a step of the task's own ending."""
        with self._lock:
            health = self._health.get(agent_name, AgentHealth())
            if status is TaskStatus.COMPLETED:
                update: dict[str, object] = {
                    "successes": health.successes + 1,
                    "last_success_at": utc_now(),
                }
            elif status is TaskStatus.CANCELLED:
                return
            else:
                update = {
                    "failures": health.failures + 1,
                    "last_failure_at": utc_now(),
                    "last_failure_code": failure.code if failure else None,
                }
            self._health[agent_name] = health.model_copy(update=update)

    def _live(self) -> list[WorkerInfo]:
        with self._lock:
            now = utc_now()
            self._workers = {
                worker_id: (worker, until)
                for worker_id, (worker, until) in sorted(self._workers.items())
                if until > now
            }
            return [worker for worker, _ in self._workers.values()]

    def _info(self, name: str) -> AgentInfo:
        serving = sum(name in worker.served for worker in self._live())
        health = self._health.get(name, AgentHealth())
        return AgentInfo(
            config=self._configs[name].model_copy(deep=True),
            health=health.model_copy(
                update={"served": serving > 0, "workers": serving}
            ),
        )
