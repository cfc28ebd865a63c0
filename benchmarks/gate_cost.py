"""What the gate and the budget cost: processor time of a completion's way.

`python -m benchmarks.gate_cost [calls] [in flight]` with REDIS_URL set. The endpoint is
the double in a process of its own, so its time is not counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from time import monotonic, process_time

from conversations.message import Message
from orchestrator.agent_config import AgentConfig
from orchestrator.budget_limits import AgentBudget
from orchestrator.gate import GateLimits
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisPayee
from orchestrator.redis_gate import RedisGate
from orchestrator.task import Task
from workers.llm.allowance import Allowance
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governor import Governor
from workers.llm.provider import CompletionRequest, LLMProvider

ASKED = CompletionRequest(messages=(Message(role="user", content="hello " * 50),))
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

    def governed(limits: GateLimits, **budget: int) -> LLMProvider:
        endpoint = ServedEndpoint(
            name="one", base_url=url, model="m", provider=bare, limits=limits
        )
        governor = Governor(
            Endpoints((endpoint,)),
            Gatekeeper(RedisGate(client)),
            Allowance(RedisBudget(client), tenants={}),
            RedisPayee(client),
        )
        config = AgentConfig(name="a", budget=AgentBudget(**budget))
        return governor.for_run(Task(agent_name="a"), config, may_park=False)

    await measure("provider alone", bare, calls, most)
    await measure("governed, no limits", governed(FREE), calls, most)
    await measure("with gate", governed(HIGH), calls, most)
    budget = governed(HIGH, tokens=10**12)
    await measure("with gate and budget", budget, calls, most)
    await bare.aclose()
    await client.aclose()
    double.terminate()
    await double.wait()


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]] or [2000, 100]
    asyncio.run(main(*arguments))
