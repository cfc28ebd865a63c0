"""`/agents`: which agents exist, who serves them and how they fare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from orchestrator.agent_config import AgentConfig, AgentHealth, AgentInfo
from orchestrator.http.auth import Caller, Reader
from orchestrator.http.dependencies import Celeriac, problems
from orchestrator.http.status import operates
from orchestrator.orchestrator import AsyncOrchestrator

router = APIRouter(prefix="/agents", tags=["agents"])


class AgentBody(BaseModel):
    """An agent as any client may see it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    """What tasks call it."""
    version: str
    """Its version."""
    description: str
    """One line for people who choose an agent."""
    kind: str
    """Which implementation it is."""
    model: str | None
    """The model; null takes that of its endpoint."""
    tools: list[str]
    """The tools that it may call."""
    health: AgentHealth
    """How it fares: the tenant's own runs, with scope `operate` those of all."""
    failure_rate: float
    """Share of these runs that failed, 0 to 1."""

    @classmethod
    def of(cls, info: AgentInfo, health: AgentHealth) -> AgentBody:
        config: AgentConfig = info.config
        return cls(
            name=config.name,
            version=config.version,
            description=config.description,
            kind=config.kind,
            model=config.model,
            tools=list(config.tools),
            health=health,
            failure_rate=health.failure_rate,
        )


class AgentList(BaseModel):
    """Every known agent."""

    agents: list[AgentBody]


@router.get("", responses=problems())
async def list_agents(caller: Reader, celeriac: Celeriac) -> AgentList:
    """List every known agent with its health, by name."""
    infos = await celeriac.agents()
    health = await _health_of(infos, celeriac, caller)
    return AgentList(agents=[AgentBody.of(info, health[info.name]) for info in infos])


@router.get("/{name}", responses=problems(404))
async def get_agent(
    name: Annotated[str, Path(max_length=256)],
    caller: Reader,
    celeriac: Celeriac,
) -> AgentBody:
    """Return one agent with its health."""
    info = await celeriac.agent(name)
    health = await _health_of([info], celeriac, caller)
    return AgentBody.of(info, health[name])


async def _health_of(
    infos: Sequence[AgentInfo], celeriac: AsyncOrchestrator, caller: Caller
) -> dict[str, AgentHealth]:
    """Return how agents fare, as far as it is the caller's business."""
    if operates(caller):
        return {info.name: info.health for info in infos}
    figures = await celeriac.figures(tenant=caller.tenant)
    ended: Counter[tuple[str, str]] = Counter()
    for (status, agent), times in figures.counters.times("ended", 2).items():
        ended[status, agent] = sum(times.counts)
    return {
        info.name: AgentHealth(
            served=info.health.served,
            workers=info.health.workers,
            successes=ended["completed", info.name],
            failures=ended["failed", info.name] + ended["timed_out", info.name],
        )
        for info in infos
    }
