"""One test's system: a Redis that can fail, an endpoint that counts, real workers."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from orchestrator import AsyncOrchestrator, Task
from orchestrator.errors import OrchestratorError
from orchestrator.orchestrator import AsyncTaskHandle
from tests.faults import fault_agents
from tests.faults.restartable_redis import RestartableRedis
from tests.faults.scripted_model import CountingModel, prompt
from tests.stand import RunningWorker, Stand, wait_until
from workers.llm.double import Double

LEASE_SECONDS = 3
SHORT_LEASE = {
    "CELERIAC_WORKER__LEASE": f"{LEASE_SECONDS}s",
    "CELERIAC_WORKER__HEARTBEAT": "1s",
    "CELERIAC_WORKER__SHUTDOWN_GRACE": "5s",
}


def choose(pool: str) -> tuple[str, ...]:
    """Arguments that choose a pool; ours is the one that is configured."""
    return () if pool == "async" else ("--pool", pool)


@dataclass
class Answer:
    """What a client was told, and how long it took."""

    call: str
    seconds: float
    error: Exception | None = None


@dataclass
class Fleet:
    """What a test breaks and looks at."""

    server: RestartableRedis
    stand: Stand
    model: CountingModel
    celeriac: AsyncOrchestrator
    accepted: dict[str, str] = field(default_factory=dict)
    """Task id of each label that was accepted."""
    answers: list[Answer] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    async def start_worker(
        self, *arguments: str, slots: int = 4, wait: bool = True
    ) -> RunningWorker:
        return await asyncio.to_thread(
            self.stand.start_worker,
            "-I",
            "fault_agents",
            *arguments,
            slots=slots,
            wait=wait,
        )

    async def submit(
        self, label: str, *, turns: int = 2, **options: object
    ) -> AsyncTaskHandle:
        handle = await self.answered(
            "submit",
            self.celeriac.submit(
                "counter", {"prompt": prompt(label, turns=turns)}, **options
            ),
        )
        self.accepted[label] = handle.id
        self.order.append(label)
        return handle

    async def answered(self, call: str, coroutine: object) -> AsyncTaskHandle:
        """Await a call as a client and log how it was answered."""
        started = time.monotonic()
        try:
            answer: AsyncTaskHandle = await coroutine
        except Exception as exc:
            self.answers.append(Answer(call, time.monotonic() - started, exc))
            raise
        self.answers.append(Answer(call, time.monotonic() - started))
        return answer

    async def record(self, label: str) -> Task:
        return await self.celeriac.get(self.accepted[label])

    async def all_ended(self, timeout: float) -> None:
        """Wait until every accepted task has ended."""
        open_ids = set(self.accepted.values())
        deadline = time.monotonic() + timeout
        while open_ids:
            for task_id in [*open_ids]:
                try:
                    task = await self.celeriac.get(task_id)
                except OrchestratorError:
                    break
                if task.status.is_terminal:
                    open_ids.discard(task_id)
            if open_ids and time.monotonic() > deadline:
                stuck = [await self.celeriac.get(task_id) for task_id in open_ids]
                facts = [(t.id, t.status, t.attempt, t.pending_reason) for t in stuck]
                raise AssertionError(f"not ended within {timeout} s: {facts}")
            await asyncio.sleep(0.1)

    async def until(self, condition: Callable[[], bool], timeout: float = 20) -> None:
        """Wait for what nothing announces."""
        await asyncio.to_thread(
            wait_until,
            condition,
            timeout,
            lambda: "\n".join(worker.text()[-3000:] for worker in self.stand.workers),
        )

    def requested(self, label: str, completion: int = 1) -> Callable[[], bool]:
        return lambda: self.model.counts()[label, completion] > 0

    def effects(self) -> list[dict[str, object]]:
        """The lines that tools have left."""
        path = Path(self.stand.environment["FAULT_EFFECTS"])
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def raw(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url, decode_responses=True)


@asynccontextmanager
async def running_fleet(
    server: RestartableRedis,
    directory: Path,
    *,
    model: CountingModel | None = None,
    environment: dict[str, str] | None = None,
    broker_database: int | None = None,
    broker: RestartableRedis | None = None,
) -> AsyncIterator[Fleet]:
    """A fleet without workers yet; all that was started is ended with it."""
    model = model or CountingModel()
    stand = Stand(server.url, directory)
    if broker_database is not None:
        stand.broker_url = f"{server.url}?db={broker_database}"
    if broker is not None:
        stand.broker_url = broker.url
    source = Path(fault_agents.__file__)
    shutil.copy(source, directory / source.name)
    stand.environment |= {"FAULT_EFFECTS": str(directory / "effects.log")}
    stand.environment |= SHORT_LEASE | (environment or {})
    async with Double(model) as double:
        stand.llm_url = double.url
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            try:
                yield Fleet(server, stand, model, celeriac)
            finally:
                await asyncio.to_thread(_stop, stand)


def _stop(stand: Stand) -> None:
    for worker in stand.workers:
        worker.stop()
