"""`/agents`: which agents exist, who serves them and how they fare."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from orchestrator.agent_config import AgentConfig, AgentHealth, AgentInfo
from orchestrator.errors import AgentNotFound
from orchestrator.http.auth import Reader
from orchestrator.http.dependencies import Celeriac, problems
from orchestrator.names import nearest_names

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
    """How it fares."""
    failure_rate: float
    """Share of its runs that failed, 0 to 1."""

    @classmethod
    def of(cls, info: AgentInfo) -> AgentBody:
        config: AgentConfig = info.config
        return cls(
            name=config.name,
            version=config.version,
            description=config.description,
            kind=config.kind,
            model=config.model,
            tools=list(config.tools),
            health=info.health,
            failure_rate=info.health.failure_rate,
        )


class AgentList(BaseModel):
    """Every known agent."""

    agents: list[AgentBody]


@router.get("", responses=problems())
async def list_agents(caller: Reader, celeriac: Celeriac) -> AgentList:  # noqa: ARG001
    """List every known agent with its health, by name."""
    return AgentList(agents=[AgentBody.of(info) for info in await celeriac.agents()])


@router.get("/{name}", responses=problems(404))
async def get_agent(
    name: Annotated[str, Path(max_length=256)],
    caller: Reader,  # noqa: ARG001
    celeriac: Celeriac,
) -> AgentBody:
    """Return one agent with its health."""
    known = {info.name: info for info in await celeriac.agents()}
    if name not in known:
        raise AgentNotFound(name[:64], nearest=nearest_names(name, known))
    return AgentBody.of(known[name])
