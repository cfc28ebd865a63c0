"""What gate and budget add to a completion: processor time, and calls of Redis.

`python -m benchmarks.gate_cost [turns]` starts a Redis of its own. A hundred runs ask a
model that answers after 0.2 s and costs nothing here; each of their completions is
marked, asked and recorded as every agent's is. Runs without limits, with a gate, with a
budget and with both work in turns, so that a busy machine treats all alike; a share is
the median of the turns' own shares. Counted are the worker's side (this process, its
collector set as workers set it), Redis (from its own count), the scripts called, and
the calls of functions in the worker.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import process_time

from redis.asyncio import Redis

from benchmarks.machinery import scripts_called
from conversations.message import Message
from orchestrator.agent_config import AgentConfig
from orchestrator.budget_limits import AgentBudget
from orchestrator.collector import spare_the_collector
from orchestrator.embedded import open_redis
from orchestrator.gate import GateLimits
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim
from orchestrator.task import Task
from workers.insistence import Insistence
from workers.llm.allowance import Allowance
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_calls import CallRules
from workers.llm.governor import Governor
from workers.llm.provider import CompletionRequest
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.run_log import StoreRunLog
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Tool, tool

ASKED = CompletionRequest(messages=(Message(role="user", content="hello " * 50),))
RUNS, EACH = 100, 10
"""Runs at once, and completions of each in a turn."""
FREE = GateLimits()
HIGH = GateLimits(in_flight=100_000, requests=10_000_000, tokens=10**12)
KINDS = {
    "no limits": (FREE, {}),
    "gate": (HIGH, {}),
    "budget": (FREE, {"tokens": 10**12}),
    "gate and budget": (HIGH, {"tokens": 10**12}),
}


@dataclass(kw_only=True)
class Costs:
    """Of one kind, in each turn: milliseconds and scripts of a completion."""

    worker: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)
    scripts: list[float] = field(default_factory=list)
    calls: float = 0.0
    """Of functions, Python's and others; the same on a busy machine."""


@tool(effect="pure")
async def lookup(place: str) -> str:
    """Look up a place."""
    return f"{place} is fine"


async def complete(context: JournaledRunContext) -> None:
    for _ in range(EACH):
        await context.complete(ASKED)


async def complete_and_call(context: JournaledRunContext) -> None:
    """As a tool loop does: each completion follows a tool call."""
    asked = ASKED.model_copy(update={"tools": context.tools})
    for _ in range(EACH):
        completion = await context.complete(asked)
        await context.call_tool(completion.message.tool_calls[0])


WORK = {"completions alone": complete, "completions and tool calls": complete_and_call}


async def measure(
    contexts: Sequence[JournaledRunContext], work: str, client: Redis, costs: Costs
) -> None:
    """Let all runs work for a turn."""
    redis, scripts = await spent_by(client)
    began = process_time()
    await asyncio.gather(*(WORK[work](each) for each in contexts))
    used, done = process_time() - began, len(contexts) * EACH
    redis_after, scripts_after = await spent_by(client)
    costs.worker.append(used / done * 1000)
    costs.redis.append((redis_after - redis) / done * 1000)
    costs.scripts.append((scripts_after - scripts) / done)


async def count_calls(contexts: Sequence[JournaledRunContext], work: str) -> float:
    """Let all runs work for a turn; return the calls of functions for a completion."""
    count = 0

    def hear(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(hear)
    await asyncio.gather(*(WORK[work](each) for each in contexts))
    sys.setprofile(None)
    return count / (len(contexts) * EACH)


async def spent_by(client: Redis) -> tuple[float, int]:
    """Return seconds of processor time and scripts called."""
    cpu = await client.info("cpu")
    stats = await client.info("commandstats")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], scripts_called(stats)


def report(work: str, costs: dict[str, Costs]) -> None:
    bare = costs["no limits"]
    print(f"{work}: of one completion")
    for name, cost in costs.items():
        pairs = zip(cost.worker, bare.worker, strict=True)
        more = median(used / least - 1 for used, least in pairs)
        whole = zip(cost.worker, cost.redis, bare.worker, bare.redis, strict=True)
        with_redis = median((a + b) / (c + d) - 1 for a, b, c, d in whole)
        print(
            f"  {name:<16} worker {median(cost.worker):6.3f} ms ({more:+6.1%}),"
            f" Redis {median(cost.redis):6.3f} ms (both {with_redis:+6.1%}),"
            f" {median(cost.scripts):4.2f} scripts,"
            f" {cost.calls:.0f} calls ({cost.calls / bare.calls - 1:+.1%})"
        )


async def a_run(
    store: RedisTaskStore, governor: Governor, budget: dict[str, int]
) -> JournaledRunContext:
    """Return what an agent has of a claimed task."""
    task = Task(agent_name="a")
    await store.create([task])
    claimed = await store.claim(
        task.tenant, task.id, worker="w", serves=("a",), lease_seconds=3600
    )
    if not isinstance(claimed, Claim):
        raise TypeError(f"not claimed: {claimed}")
    tools: list[Tool] = [lookup]
    config = AgentConfig(name="a", tools=("lookup",), budget=AgentBudget(**budget))
    log = StoreRunLog(
        store, lease=claimed.lease, insist=Insistence(patience_seconds=5), ring=_nobody
    )
    return JournaledRunContext(
        Run(claimed.task, lease=claimed.lease),
        config=config,
        log=log,
        llm=governor.for_run(claimed.task, config, may_park=False, may_owe=True),
        tools=ToolRegistry(tools),
    )


async def _nobody(_: object) -> None:
    """Ring for nobody."""


@asynccontextmanager
async def an_endpoint() -> AsyncIterator[str]:
    """Serve a model in a process of its own; give its URL."""
    served = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.endpoint"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert served.stdout is not None
    assert served.stdin is not None
    try:
        yield f"http://127.0.0.1:{int(await served.stdout.readline())}/v1"
    finally:
        served.stdin.close()
        await served.wait()


async def main(turns: int, redis_url: str) -> None:
    client = connect(redis_url)
    async with an_endpoint() as url:
        bare = ChatCompletionsProvider(url, model="m")

        def governor_of(limits: GateLimits) -> Governor:
            endpoint = ServedEndpoint(
                name="one", base_url=url, model="m", provider=bare, limits=limits
            )
            keeper = Gatekeeper(RedisGate(client))
            rules = CallRules(keeper, Allowance(tenants={}), RedisToll(client))
            return Governor(Endpoints((endpoint,)), rules)

        store = RedisTaskStore(client)
        for work in WORK:
            costs = {name: Costs() for name in KINDS}
            for turn in range(turns + 1):
                names = list(KINDS)
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    limits, budget = KINDS[name]
                    governor = governor_of(limits)
                    runs = [await a_run(store, governor, budget) for _ in range(RUNS)]
                    kept = costs[name] if turn else Costs()  # the first one warms up
                    spare_the_collector()
                    await measure(runs, work, client, kept)
                    if turn == turns:
                        costs[name].calls = await count_calls(runs, work)
            report(work, costs)
        await bare.aclose()
    await client.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_cost")
    parser.add_argument("turns", type=int, nargs="?", default=15)
    turns = parser.parse_args().turns
    with (
        tempfile.TemporaryDirectory(prefix="celeriac-bench-") as directory,
        open_redis(Path(directory)) as server,
    ):
        asyncio.run(main(turns, server.url))
