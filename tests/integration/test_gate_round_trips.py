"""What a completion's gate and budget cost: calls of scripts, each a round trip."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from conversations.message import Message, Role
from orchestrator.agent_config import AgentConfig
from orchestrator.budget_limits import AgentBudget
from orchestrator.gate import GateLimits
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_store import RedisTaskStore
from tests.conformance.task_steps import running
from workers.insistence import Insistence
from workers.llm.allowance import Allowance
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governor import Governor
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


async def scripts_called(client: Redis) -> int:
    stats: dict[str, Any] = await client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.mark.parametrize(
    ("limits", "budget", "most"),
    [
        pytest.param(GateLimits(), {}, 2, id="a mark and a record without limits"),
        pytest.param(LIMITS, {}, 3, id="one more with a gate"),
        pytest.param(LIMITS, {"tokens": 10**6}, 4, id="one more with a budget"),
    ],
)
async def test_round_trips_of_a_completion(
    clean_redis_url: str, limits: GateLimits, budget: dict[str, int], most: int
):
    client = connect(clean_redis_url)
    llm = ScriptedLLMProvider(replies=["yes"] * (COMPLETIONS + 1))
    endpoint = ServedEndpoint(
        name="one", base_url="http://one/v1", model="m", provider=llm, limits=limits
    )
    governor = Governor(
        Endpoints((endpoint,)),
        Gatekeeper(RedisGate(client)),
        Allowance(RedisBudget(client), tenants={}),
    )
    store = RedisTaskStore(client)
    lease = await running(store)
    task = await store.get("default", lease.task_id)
    config = AgentConfig(name="a", budget=AgentBudget(**budget))
    context = JournaledRunContext(
        Run(task, lease=lease),
        config=config,
        log=StoreRunLog(
            store,
            lease=lease,
            insist=Insistence(patience_seconds=5),
            ring=nobody_rings,
        ),
        llm=governor.for_run(task, config, may_park=True, may_owe=True),
        tools=ToolRegistry([]),
    )
    await context.complete(ASK)  # loads the scripts
    before = await scripts_called(client)
    for _ in range(COMPLETIONS):
        await context.complete(ASK)
    calls = await scripts_called(client) - before
    state = await RedisGate(client).state(endpoint.gate_of("m"), limits)
    await governor.aclose()
    await client.aclose()
    assert calls == most * COMPLETIONS
    assert state.in_flight == 0
