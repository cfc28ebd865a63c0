"""An endpoint that is down is probed, not stormed, and used again at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from time import monotonic

from conversations.json_value import JsonObject
from orchestrator.agent_config import AgentConfig
from orchestrator.gate import FAILURES_TO_OPEN
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from orchestrator.task import Task
from tests.integration.llm_serving import ASKED
from workers.llm.allowance import Allowance
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.double import Double
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_calls import CallRules
from workers.llm.governor import Governor

PROCESSES, RUNS, DOWN_SECONDS = 4, 5, 4.0


async def test_a_dead_endpoint_gets_a_probe_a_second_and_recovers_within_two(
    clean_redis_url: str,
):
    down, calls = True, list[float]()

    def answer(_: JsonObject) -> dict[str, object]:
        calls.append(monotonic())
        return {"status": 503} if down else {"text": "back"}

    async with AsyncExitStack() as held:
        double = await held.enter_async_context(Double(answer))
        governors = [
            governor_at(double.url, clean_redis_url, held) for _ in range(PROCESSES)
        ]
        providers = [
            governor.for_run(
                Task(agent_name="a"), AgentConfig(name="a"), may_park=False
            )
            for governor in governors
            for _ in range(RUNS)
        ]
        runs = [asyncio.create_task(each.complete(ASKED)) for each in providers]
        await asyncio.sleep(DOWN_SECONDS)
        while_down = len(calls)
        down, returned_at = False, monotonic()
        async with asyncio.timeout(15):
            answers = await asyncio.gather(*runs)
    assert {each.message.content for each in answers} == {"back"}
    # Those in flight before the breaker opened, then one a second.
    begun_at_once = PROCESSES * RUNS
    assert while_down <= FAILURES_TO_OPEN + begun_at_once + DOWN_SECONDS + 1
    late = [at for at in calls[:while_down] if at > calls[0] + 1.5]
    assert len(late) <= DOWN_SECONDS
    assert calls[while_down] - returned_at < 2


def governor_at(url: str, redis_url: str, held: AsyncExitStack) -> Governor:
    """Return what one worker process has."""
    client = connect(redis_url)
    gate = RedisGate(client)
    endpoint = ServedEndpoint(
        name="one",
        base_url=url,
        model="m",
        provider=ChatCompletionsProvider(url, model="m"),
        when_unavailable="wait",
    )
    governor = Governor(
        Endpoints((endpoint,)),
        CallRules(Gatekeeper(gate), Allowance(tenants={}), RedisToll(client)),
    )
    held.push_async_callback(gate.aclose)
    held.push_async_callback(governor.aclose)
    return governor
