"""What a completion's gate and budget cost: calls of scripts, each a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import pytest
from redis.asyncio import Redis

from conversations.message import Message, Role
from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Account
from orchestrator.budget_limits import AgentBudget
from orchestrator.gate import GateLimits
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_store import RedisTaskStore
from orchestrator.task import Task
from tests.conformance.task_steps import running
from workers.insistence import Insistence
from workers.llm.allowance import Allowance
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_calls import CallRules
from workers.llm.governor import GovernedProvider, Governor
from workers.llm.provider import CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.run_log import StoreRunLog
from workers.tools.registry import ToolRegistry

ASK = CompletionRequest(messages=(Message(role=Role.USER, content="Hello"),))
COMPLETIONS = 10
LIMITS = GateLimits(in_flight=3, requests=1000, tokens=10**6)


async def nobody_rings(doorbells: object) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A claimed run on Redis, before a scripted model."""

    governor: Governor
    provider: GovernedProvider
    context: JournaledRunContext
    log: StoreRunLog
    task: Task
    in_flight: Callable[[], Awaitable[int]]

    @classmethod
    async def open(
        cls, client: Redis, *, limits: GateLimits, budget: dict[str, int]
    ) -> Self:
        llm = ScriptedLLMProvider(replies=["yes"] * (COMPLETIONS + 1))
        endpoint = ServedEndpoint(
            name="one", base_url="http://one/v1", model="m", provider=llm, limits=limits
        )
        gate = RedisGate(client)
        governor = Governor(
            Endpoints((endpoint,)),
            CallRules(
                Gatekeeper(gate),
                Allowance(tenants={}),
                RedisToll(client),
            ),
        )
        store = RedisTaskStore(client)
        lease = await running(store)
        task = await store.get("default", lease.task_id)
        config = AgentConfig(name="a", budget=AgentBudget(**budget))
        log = StoreRunLog(
            store,
            lease=lease,
            insist=Insistence(patience_seconds=5),
            ring=nobody_rings,
        )
        provider = governor.for_run(task, config, may_park=True, may_owe=True)
        context = JournaledRunContext(
            Run(task, lease=lease),
            config=config,
            log=log,
            llm=provider,
            tools=ToolRegistry([]),
        )

        async def in_flight() -> int:
            return (await gate.state(endpoint.gate_of("m"), limits)).in_flight

        return cls(
            governor=governor,
            provider=provider,
            context=context,
            log=log,
            task=task,
            in_flight=in_flight,
        )


async def scripts_called(client: Redis) -> int:
    stats: dict[str, Any] = await client.info("commandstats")
    names = "cmdstat_evalsha", "cmdstat_fcall"
    return sum(int(stats.get(name, {"calls": 0})["calls"]) for name in names)


@pytest.mark.parametrize(
    ("limits", "budget", "most"),
    [
        pytest.param(GateLimits(), {}, 2, id="a mark and a record without limits"),
        pytest.param(LIMITS, {}, 2, id="no more with a gate"),
        pytest.param(GateLimits(), {"tokens": 10**6}, 2, id="no more with a budget"),
        pytest.param(LIMITS, {"tokens": 10**6}, 2, id="no more with both"),
    ],
)
async def test_round_trips_of_a_completion(
    clean_redis_url: str, limits: GateLimits, budget: dict[str, int], most: int
):
    client = connect(clean_redis_url)
    stand = await Stand.open(client, limits=limits, budget=budget)
    await stand.context.complete(ASK)  # loads the scripts
    before = await scripts_called(client)
    for _ in range(COMPLETIONS):
        await stand.context.complete(ASK)
    calls = await scripts_called(client) - before
    in_flight = await stand.in_flight()
    await stand.governor.aclose()
    await client.aclose()
    assert calls == most * COMPLETIONS
    assert in_flight == 0


async def test_round_trips_of_a_completion_inside_a_tool(clean_redis_url: str):
    """It has no record of its own to ride in: one admission, one payment."""
    client = connect(clean_redis_url)
    stand = await Stand.open(client, limits=LIMITS, budget={"tokens": 10**6})
    tool_s = stand.provider.for_tool(may_park=True)
    await tool_s.complete(ASK)  # loads the scripts
    before = await scripts_called(client)
    for _ in range(COMPLETIONS):
        await tool_s.complete(ASK)
        assert await stand.in_flight() == 0
    calls = await scripts_called(client) - before
    await stand.governor.aclose()
    await client.aclose()
    looks = COMPLETIONS
    assert calls - looks == 2 * COMPLETIONS


async def test_a_run_cancelled_before_its_record_has_paid_at_once(clean_redis_url: str):
    """Long before a lease of a permit would run out."""
    client = connect(clean_redis_url)
    stand = await Stand.open(client, limits=LIMITS, budget={"tokens": 10**6})
    recording = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        recording.set()
        await asyncio.get_running_loop().create_future()

    stand.log.record = hang  # type: ignore[method-assign]
    completing = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(30):
        await recording.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    await stand.governor.aclose()  # waits for what is being paid
    account = Account(kind="task", name=stand.task.id)
    spent = await RedisBudget(client).spent("default", account)
    in_flight = await stand.in_flight()
    await client.aclose()
    assert in_flight == 0
    assert 0 < spent.tokens < 100
