"""How the system stands at one moment, for people and programs that watch it.

A tenant sees its own figures and what it can expect; whoever operates the system sees
the queues, workers, endpoints and budgets of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.agent_config import AgentInfo, WorkerInfo
from orchestrator.budget import Account
from orchestrator.budget_limits import SpendingLimits
from orchestrator.errors import StoreUnfit
from orchestrator.figures_store import QueueState
from orchestrator.gate_report import GateReport, read_gates
from orchestrator.metrics import Counters
from orchestrator.parts import OrchestratorParts
from orchestrator.store import TaskStore

_MICROS = 1_000_000
_SHAPE = ConfigDict(frozen=True, use_attribute_docstrings=True)


class AgentOverview(BaseModel):
    """An agent and the tasks of one tenant for it."""

    model_config = _SHAPE

    name: str
    """The agent."""
    queue: str
    """The queue that its tasks go to."""
    workers: int
    """Live workers that serve it."""
    pending: int = 0
    """Accepted tasks that wait, delayed ones included."""
    running: int = 0
    """Tasks that a worker holds."""
    waiting: int = 0
    """Tasks that wait for a person."""
    ended: dict[str, int] = {}
    """Tasks that have ever ended, by status."""
    oldest_due_seconds: float | None = None
    """For how long the oldest due task has waited, of the oldest 500 pending ones."""
    expected_wait_seconds: float | None = None
    """Roughly how long a task submitted now waits; null where nothing tells."""


class QueueOverview(BaseModel):
    """A Celery queue."""

    model_config = _SHAPE

    name: str
    """Its name."""
    length: int
    """Due tasks that no worker has claimed."""
    rung: int
    """Those of them whose message is out."""
    slots: int
    """Runs that its live workers hold at once."""


class WorkerOverview(BaseModel):
    """A live worker process."""

    model_config = _SHAPE

    id: str
    """Unique to the process."""
    hostname: str
    """The Celery node name."""
    pid: int
    """Its process id there."""
    release: str
    """Celeriac's version there."""
    agents: tuple[str, ...]
    """What it serves."""
    queues: tuple[str, ...]
    """Where it takes tasks from."""
    slots: int
    """Runs that it holds at once."""
    running: int
    """Runs that it holds now."""
    draining: bool
    """It takes no more work."""
    seen_at: datetime | None
    """Its last announcement."""
    loop_lag_seconds: float | None = None
    """How late its event loop is, where it tells."""

    @classmethod
    def of(cls, worker: WorkerInfo) -> WorkerOverview:
        """Read an announcement."""
        facts = worker.model_dump(include=set(cls.model_fields) - {"agents", "queues"})
        return cls(agents=worker.served, queues=worker.all_queues, **facts)


class GateOverview(BaseModel):
    """The gate before a model."""

    model_config = _SHAPE

    endpoint: str
    """The endpoint's name."""
    model: str
    """The model."""
    in_flight: int
    """Calls being answered; models without limits are not counted."""
    waiting: int
    """Tasks that wait for their turn."""
    requests: int
    """Let through in the present window."""
    tokens: int
    """Let through in the present window."""
    closed_by: str | None
    """Why nothing passes: a cool-down, a limit, or an endpoint that is down."""
    closed_for_seconds: float
    """Until it opens again."""

    @classmethod
    def of(cls, report: GateReport) -> GateOverview:
        """Read a report."""
        state = report.state
        return cls(
            endpoint=report.endpoint,
            model=report.model,
            in_flight=state.in_flight,
            waiting=state.waiting,
            requests=state.requests,
            tokens=state.tokens,
            closed_by=state.closed_by,
            closed_for_seconds=state.closed_for_seconds,
        )


class BudgetOverview(BaseModel):
    """What an account has spent today, by UTC."""

    model_config = _SHAPE

    kind: str
    """`agent` or `tenant`."""
    name: str
    """Whose it is."""
    tokens: int
    """Spent or reserved."""
    most_tokens: int | None
    """What it may spend in the day."""
    cost: float
    """Money spent or reserved."""
    most_cost: float | None
    """What it may spend in the day."""


class Overview(BaseModel):
    """The system at one moment."""

    model_config = _SHAPE

    at: datetime
    """When it was read."""
    tenant: str
    """Whose tasks and budgets are told."""
    agents: tuple[AgentOverview, ...]
    """Every known agent."""
    budgets: tuple[BudgetOverview, ...]
    """Daily budgets of the tenant and of its use of agents."""
    queues: tuple[QueueOverview, ...] | None = None
    """Told to whoever operates the system."""
    workers: tuple[WorkerOverview, ...] | None = None
    """Told to whoever operates the system."""
    gates: tuple[GateOverview, ...] | None = None
    """Told to whoever operates the system."""
    store: dict[str, str] | None = None
    """Its version, durability and warnings, or why it is `unfit` for tasks; told to
    whoever operates the system."""


async def read_overview(
    parts: OrchestratorParts, agents: Iterable[AgentInfo], *, tenant: str, fleet: bool
) -> Overview:
    """Read how things stand for a tenant, and with `fleet` for all of the system."""
    store = parts.store
    counters = await store.counters(tenant)
    oldest = await store.oldest_due(tenant)
    queues = {queue.name: queue for queue in await store.queues()}
    workers = await parts.directory.workers()
    overview = Overview(
        at=datetime.now(UTC),
        tenant=tenant,
        agents=await asyncio.to_thread(  # of a thousand a tenth of a second
            _agents, agents, counters, oldest, _Expectation(queues, workers)
        ),
        budgets=tuple([budget async for budget in _read_budgets(parts, tenant)]),
    )
    if not fleet:
        return overview
    return overview.model_copy(
        update={
            "queues": tuple(_queue(queue) for queue in queues.values()),
            "workers": tuple(map(WorkerOverview.of, workers)),
            "gates": tuple(map(GateOverview.of, await read_gates(parts))),
            "store": await _read_store(store),
        }
    )


async def _read_store(store: TaskStore) -> dict[str, str]:
    """What the store says of itself; an unfit one must not hide all the rest."""
    try:
        return await store.check()
    except StoreUnfit as exc:
        return {"unfit": str(exc)}


def _agents(
    agents: Iterable[AgentInfo],
    counters: Counters,
    oldest: Mapping[str, float],
    expectation: _Expectation,
) -> tuple[AgentOverview, ...]:
    unfinished = counters.by_labels("tasks", 2)
    running_ms = counters.by_labels("running_ms", 1)
    ended: dict[str, dict[str, int]] = {}
    for (status, name), times in counters.times("ended", 2).items():
        ended.setdefault(name, {})[status] = sum(times.counts)
    overviews: list[AgentOverview] = []
    for agent in agents:
        name, queue = agent.name, agent.config.queue
        mine = ended.get(name, {})
        runs = sum(mine.values())
        overview = AgentOverview(
            name=name,
            queue=queue,
            workers=agent.health.workers,
            **{
                status: max(0, unfinished.get((status, name), 0))
                for status in ("pending", "running", "waiting")
            },
            ended=mine,
            oldest_due_seconds=oldest.get(name),
            expected_wait_seconds=expectation.seconds(
                queue,
                mean_seconds=running_ms.get((name,), 0) / runs / 1000 if runs else None,
            )
            if agent.health.workers
            else None,
        )
        overviews.append(overview)
    return tuple(overviews)


class _Expectation:
    """How long a new task of a queue will wait, if things go on as they did."""

    def __init__(
        self, queues: Mapping[str, QueueState], workers: Iterable[WorkerInfo]
    ) -> None:
        self._queues = queues
        self._free: dict[str, int] = {}
        for worker in workers:
            for queue in worker.all_queues:
                free = 0 if worker.draining else max(0, worker.slots - worker.running)
                self._free[queue] = self._free.get(queue, 0) + free

    def seconds(self, queue: str, *, mean_seconds: float | None) -> float | None:
        """The wait; None without a worker or, when all are busy, without experience."""
        state = self._queues.get(queue)
        if state is None or not state.slots:
            return None
        before = state.rung + state.in_line - self._free.get(queue, 0)
        if before < 0:
            return 0.0
        if mean_seconds is None:
            return None
        return round((before + 1) * mean_seconds / state.slots, 3)


def _queue(state: QueueState) -> QueueOverview:
    return QueueOverview(
        name=state.name,
        length=state.rung + state.in_line,
        rung=state.rung,
        slots=state.slots,
    )


async def _read_budgets(
    parts: OrchestratorParts, tenant: str
) -> AsyncIterator[BudgetOverview]:
    bounded: list[tuple[Literal["agent", "tenant"], str, SpendingLimits]] = [
        ("agent", name, config.budget) for name, config in sorted(parts.agents.items())
    ]
    if tenant in parts.budgets:
        bounded.append(("tenant", tenant, parts.budgets[tenant]))
    for kind, name, limits in bounded:
        if limits.daily_tokens is None and limits.daily_cost is None:
            continue
        account = Account(kind=kind, name=name, daily=True)
        spent = await parts.budget.spent(tenant, account)
        yield BudgetOverview(
            kind=kind,
            name=name,
            tokens=spent.tokens,
            most_tokens=limits.daily_tokens,
            cost=spent.micros / _MICROS,
            most_cost=float(limits.daily_cost) if limits.daily_cost else None,
        )
