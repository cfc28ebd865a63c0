"""What a submit remembers of agents: those that are known, and for a moment only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from orchestrator import acceptance
from orchestrator.acceptance import KnownAgents
from orchestrator.agent_config import AgentConfig, AgentInfo, WorkerInfo
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.request import Defaults, SubmitRequest

REQUEST = SubmitRequest(agent="desk")
LOOKS = 100


class CountingDirectory(InMemoryAgentDirectory):
    """Counts how often it is asked."""

    asked = 0

    async def find_all(self, names: Iterable[str]) -> dict[str, AgentInfo]:
        self.asked += 1
        return await super().find_all(names)


class Parts:
    """What `KnownAgents` works with."""

    defaults = Defaults()

    def __init__(self, **agents: AgentConfig) -> None:
        self.directory = CountingDirectory()
        self.agents = agents

    async def announce(self, config: AgentConfig) -> None:
        worker = WorkerInfo(id="h:1:1", hostname="h", pid=1, agents=(config,))
        await self.directory.announce(worker, ttl_seconds=600)


async def test_an_agent_is_known_to_the_next_submit_once_it_is_announced() -> None:
    parts = Parts()
    known = KnownAgents(parts)
    for times in (1, 2):
        (before,) = known.build([REQUEST], await known.look_up([REQUEST]))
        assert (before.queue, before.agent_version) != ("gpu", "7")
        assert parts.directory.asked == times
    await parts.announce(AgentConfig(name="desk", version="7", queue="gpu"))
    (after,) = known.build([REQUEST], await known.look_up([REQUEST]))
    assert (after.queue, after.agent_version) == ("gpu", "7")


async def test_an_agent_that_nobody_serves_is_remembered_for_a_moment() -> None:
    config = AgentConfig(name="desk", queue="gpu")
    parts = Parts(desk=config)
    known = KnownAgents(parts)
    for _ in range(LOOKS):
        info = (await known.look_up([REQUEST]))["desk"]
        assert info is not None
        assert (info.config.queue, info.health.served) == ("gpu", False)
    assert parts.directory.asked < LOOKS / 2  # a burst asks once, if it is no slow one
    await parts.announce(config)
    async with asyncio.timeout(30):
        while not (info and info.health.served):
            await asyncio.sleep(0)
            info = (await known.look_up([REQUEST]))["desk"]


async def test_a_worker_that_serves_an_agent_is_seen_after_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(acceptance, "monotonic", lambda: now)
    config = AgentConfig(name="desk")
    parts = Parts(desk=config)
    known = KnownAgents(parts)

    async def is_served() -> bool:
        info = (await known.look_up([REQUEST]))["desk"]
        return info is not None and info.health.served

    assert not await is_served()
    await parts.announce(config)
    assert not await is_served()
    now += acceptance.UNSERVED_MEMORY_SECONDS
    assert await is_served()
    await parts.directory.withdraw("h:1:1")
    now += acceptance.AGENT_MEMORY_SECONDS / 2
    assert await is_served()
    now += acceptance.AGENT_MEMORY_SECONDS / 2
    assert not await is_served()


async def test_a_bulk_submit_for_many_agents_asks_the_directory_once() -> None:
    parts = Parts()
    requests = [SubmitRequest(agent=f"desk-{number}") for number in range(LOOKS)]
    infos = await KnownAgents(parts).look_up(requests)
    assert len(infos) == LOOKS
    assert parts.directory.asked == 1


async def test_a_burst_for_agents_that_nobody_serves_is_logged_once_for_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    requests = [SubmitRequest(agent=name) for name in ("desk", "till") * LOOKS]
    known = KnownAgents(Parts(desk=AgentConfig(name="desk")))
    infos = await known.look_up(requests)
    tasks = known.build(requests, infos)
    warnings = [known.warn_unserved(task, infos) for task in tasks]
    assert all(each and "no live worker serves" in each for each in warnings)
    assert len(caplog.messages) == 2
