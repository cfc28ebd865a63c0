"""How the figures of all agents are put together."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.agent_config import AgentConfig, AgentInfo
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.metrics import Counters
from orchestrator.overview import Overview, read_overview
from tests.unit.orchestrator.memory_parts import memory_parts
from tests.unit.orchestrator.test_orchestrator import DeafQueue


class CountingCounters(Counters):
    """Counts how often all of its fields are looked through."""

    looks = 0

    def by_labels(self, name: str, labels: int) -> dict[tuple[str, ...], int]:
        self.looks += 1
        return super().by_labels(name, labels)


class CountedStore(InMemoryTaskStore):
    """Has counted this."""

    def __init__(self, counters: Counters) -> None:
        super().__init__()
        self._counters = counters

    async def counters(self, tenant: str) -> Counters:
        return self._counters


async def overview_of(counters: Counters, names: list[str]) -> Overview:
    parts = memory_parts(store=CountedStore(counters), queue=DeafQueue())
    agents = [AgentInfo(config=AgentConfig(name=name)) for name in names]
    return await read_overview(parts, agents, tenant="default", fleet=False)


async def test_each_agent_is_told_its_own_ends() -> None:
    counters = Counters(
        {
            "tasks running a": 2,
            "ended completed 3 a": 4,
            "ended completed 4 a": 1,
            "ended failed 0 a": 6,
            "ended failed 0 b": 7,
        }
    )
    overview = await overview_of(counters, ["a", "b", "c"])
    assert overview.at <= datetime.now(UTC)
    assert [agent.running for agent in overview.agents] == [2, 0, 0]
    assert [agent.ended for agent in overview.agents] == [
        {"completed": 5, "failed": 6},
        {"failed": 7},
        {},
    ]


@pytest.mark.parametrize("agents", [1, 50])
async def test_the_counters_are_looked_through_as_often_for_many_agents(
    agents: int,
) -> None:
    counters = CountingCounters({})
    await overview_of(counters, [f"agent-{number}" for number in range(agents)])
    assert counters.looks == 3
