"""Known agents and live workers, on every directory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.agent_config import AgentConfig
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import until, worker


async def test_an_announced_worker_is_live_and_dated(stores: Stores) -> None:
    announced = worker("b", "a")
    await stores.directory.announce(announced, ttl_seconds=30)
    (live,) = await stores.directory.workers()
    assert live.model_copy(update={"seen_at": None}) == announced
    assert live.seen_at is not None
    assert abs(live.seen_at - datetime.now(UTC)) < timedelta(seconds=5)


async def test_agents_are_told_by_name_with_the_workers_that_serve_them(
    stores: Stores,
) -> None:
    await stores.directory.announce(worker("b", "a"), ttl_seconds=30)
    await stores.directory.announce(worker("b", worker_id="other"), ttl_seconds=30)
    agents = await stores.directory.agents()
    assert [agent.name for agent in agents] == ["a", "b"]
    assert [agent.health.workers for agent in agents] == [1, 2]
    assert all(agent.health.served for agent in agents)


async def test_a_worker_that_takes_from_other_queues_does_not_serve_an_agent(
    stores: Stores,
) -> None:
    agents = (AgentConfig(name="a"), AgentConfig(name="b", queue="gpu"))
    only = {"agents": agents, "queues": ("gpu",)}
    await stores.directory.announce(worker().model_copy(update=only), ttl_seconds=30)
    served = {info.name: info.health for info in await stores.directory.agents()}
    assert (served["a"].served, served["a"].workers) == (False, 0)
    assert (served["b"].served, served["b"].workers) == (True, 1)


async def test_the_last_announcement_of_an_agent_counts(stores: Stores) -> None:
    await stores.directory.announce(worker("a"), ttl_seconds=30)
    newer = AgentConfig(name="a", version="2", instructions="Be brief: ä.")
    again = worker().model_copy(update={"agents": (newer,)})
    await stores.directory.announce(again, ttl_seconds=30)
    info = await stores.directory.find("a")
    assert info is not None
    assert info.config == newer
    assert info.health.workers == 1


async def test_an_announcement_expires_and_its_agents_stay_known(
    stores: Stores,
) -> None:
    await stores.directory.announce(worker("a"), ttl_seconds=0.02)

    async def gone() -> bool:
        return await stores.directory.workers() == ()

    await until(gone)
    (agent,) = await stores.directory.agents()
    assert (agent.name, agent.health.served) == ("a", False)


async def test_a_withdrawn_worker_is_gone_and_its_agents_stay_known(
    stores: Stores,
) -> None:
    await stores.directory.announce(worker("a"), ttl_seconds=30)
    await stores.directory.announce(worker("a", worker_id="other"), ttl_seconds=30)
    await stores.directory.withdraw("other")
    await stores.directory.withdraw("never there")
    assert [each.id for each in await stores.directory.workers()] == [worker().id]
    await stores.directory.withdraw(worker().id)
    info = await stores.directory.find("a")
    assert info is not None
    assert not info.health.served


async def test_several_agents_are_found_with_those_who_serve_them(
    stores: Stores,
) -> None:
    await stores.directory.announce(worker("a", "b"), ttl_seconds=30)
    await stores.directory.announce(worker("a", worker_id="other"), ttl_seconds=30)
    found = await stores.directory.find_all(["b", "unknown", "a"])
    assert {name: info.health.workers for name, info in found.items()} == {
        "a": 2,
        "b": 1,
    }
    assert await stores.directory.find_all([]) == {}


async def test_an_unknown_agent_is_none(stores: Stores) -> None:
    assert await stores.directory.find("a") is None
    assert await stores.directory.agents() == ()
    assert await stores.directory.workers() == ()


async def test_a_worker_that_had_no_slot_left_is_announced_again_and_withdrawn(
    stores: Stores,
) -> None:
    none_left = worker("a").model_copy(update={"slots": 0})
    await stores.directory.announce(none_left, ttl_seconds=30)
    await stores.directory.announce(worker("a"), ttl_seconds=30)
    (live,) = await stores.directory.workers()
    assert live.slots == worker("a").slots
    await stores.directory.announce(none_left, ttl_seconds=30)
    await stores.directory.withdraw(none_left.id)
    assert await stores.directory.workers() == ()


async def test_a_worker_that_ended_without_a_slot_keeps_no_other_from_the_directory(
    stores: Stores,
) -> None:
    ended = worker("a", worker_id="ended").model_copy(update={"slots": 0})
    await stores.directory.announce(ended, ttl_seconds=0.02)

    async def gone() -> bool:
        return await stores.directory.workers() == ()

    await until(gone)
    await stores.directory.announce(worker("b"), ttl_seconds=30)
    assert [agent.name for agent in await stores.directory.agents()] == ["a", "b"]


async def test_a_vanished_workers_slots_are_forgotten_when_no_other_comes(
    stores: Stores,
) -> None:
    """The expectation of a submit divides by them."""
    vanished = worker("a").model_copy(update={"slots": 8})
    await stores.directory.announce(vanished, ttl_seconds=0.02)

    async def gone() -> bool:
        await stores.tasks.sweep()
        return await stores.directory.worker_ids() == ()

    await until(gone)
    assert await stores.tasks.queues() == ()
