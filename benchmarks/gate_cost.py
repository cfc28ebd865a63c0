"""What the gate and the budget cost: processor time of a completion's way.

`python -m benchmarks.gate_cost [calls] [in flight]` with REDIS_URL set. The endpoint is
the double in a process of its own, so its time is not counted. The first rows ask as a
tool does, and pay by a call of their own; those of a run mark, ask and record as every
agent's completion does, in turns so that a busy machine treats all alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from time import monotonic, process_time

from conversations.message import Message
from orchestrator.agent_config import AgentConfig
from orchestrator.budget_limits import AgentBudget
from orchestrator.gate import GateLimits
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisPayee
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim
from orchestrator.task import Task
from workers.insistence import Insistence
from workers.llm.allowance import Allowance
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governor import Governor
from workers.llm.provider import CompletionRequest, LLMProvider
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.run_log import StoreRunLog
from workers.tools.registry import ToolRegistry

ASKED = CompletionRequest(messages=(Message(role="user", content="hello " * 50),))
TURNS = 10
FREE, HIGH = GateLimits(), GateLimits(in_flight=100_000, requests=10_000_000)


async def measure(name: str, provider: LLMProvider, calls: int, most: int) -> None:
    """Print milliseconds of processor time and of the clock for a call."""
    slots = asyncio.Semaphore(most)

    async def one() -> None:
        async with slots:
            await provider.complete(ASKED)

    await asyncio.gather(*(one() for _ in range(50)))
    began, used = monotonic(), process_time()
    await asyncio.gather(*(one() for _ in range(calls)))
    cpu = (process_time() - used) / calls * 1000
    clock = (monotonic() - began) / calls * 1000
    sys.stdout.write(f"{name:<28}{cpu:7.3f} ms cpu {clock:7.3f} ms clock a call\n")


async def measure_runs(
    runs: Mapping[str, Sequence[JournaledRunContext]], calls: int
) -> None:
    """Print milliseconds of processor time of a completion in a run, for each kind."""
    used = dict.fromkeys(runs, 0.0)
    for turn in range(TURNS + 1):
        for name, contexts in runs.items():
            each = calls // TURNS // len(contexts)
            began = process_time()
            await asyncio.gather(*(_complete(one, each) for one in contexts))
            used[name] += (process_time() - began) if turn else 0.0
    done = calls // TURNS // 100 * 100 * TURNS
    least = min(used.values())
    for name, seconds in used.items():
        share = f"{seconds / least:6.3f} x"
        sys.stdout.write(f"{name:<28}{seconds / done * 1000:7.3f} ms cpu {share}\n")


async def _complete(context: JournaledRunContext, times: int) -> None:
    for _ in range(times):
        await context.complete(ASKED)


async def a_run(
    store: RedisTaskStore, governor: Governor, **budget: int
) -> JournaledRunContext:
    """Return what an agent has of a claimed task."""
    task = Task(agent_name="a")
    await store.create([task])
    claimed = await store.claim(
        task.tenant, task.id, worker="w", serves=("a",), lease_seconds=3600
    )
    if not isinstance(claimed, Claim):
        raise TypeError(f"not claimed: {claimed}")
    config = AgentConfig(name="a", budget=AgentBudget(**budget))
    log = StoreRunLog(
        store, lease=claimed.lease, insist=Insistence(patience_seconds=5), ring=_nobody
    )
    return JournaledRunContext(
        Run(claimed.task, lease=claimed.lease),
        config=config,
        log=log,
        llm=governor.for_run(claimed.task, config, may_park=False, may_owe=True),
        tools=ToolRegistry([]),
    )


async def _nobody(_: object) -> None:
    """Ring for nobody."""


async def main(calls: int, most: int) -> None:
    """Measure the bare provider, then with gate and budget."""
    command = ("-m", "workers.llm.double", "--exit-with-parent")
    double = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    if double.stdout is None:
        raise RuntimeError("the double has no output")
    url = json.loads(await double.stdout.readline())["url"]
    client = connect(os.environ["REDIS_URL"])
    bare = ChatCompletionsProvider(url, model="m")

    def governor_of(limits: GateLimits) -> Governor:
        endpoint = ServedEndpoint(
            name="one", base_url=url, model="m", provider=bare, limits=limits
        )
        return Governor(
            Endpoints((endpoint,)),
            Gatekeeper(RedisGate(client)),
            Allowance(RedisBudget(client), tenants={}),
            RedisPayee(client),
        )

    def governed(limits: GateLimits, **budget: int) -> LLMProvider:
        config = AgentConfig(name="a", budget=AgentBudget(**budget))
        task = Task(agent_name="a")
        return governor_of(limits).for_run(task, config, may_park=False)

    await measure("provider alone", bare, calls, most)
    await measure("governed, no limits", governed(FREE), calls, most)
    await measure("with gate", governed(HIGH), calls, most)
    budget = governed(HIGH, tokens=10**12)
    await measure("with gate and budget", budget, calls, most)
    store = RedisTaskStore(client)
    free, gated = governor_of(FREE), governor_of(HIGH)
    await measure_runs(
        {
            "run, no limits": [await a_run(store, free) for _ in range(100)],
            "run, with gate": [await a_run(store, gated) for _ in range(100)],
            "run, with gate and budget": [
                await a_run(store, gated, tokens=10**12) for _ in range(100)
            ],
        },
        calls,
    )
    await bare.aclose()
    await client.aclose()
    double.terminate()
    await double.wait()


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]] or [2000, 100]
    asyncio.run(main(*arguments))
