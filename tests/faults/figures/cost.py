"""What durability costs: the same agent jobs on a Redis store and on one in memory.

Same executor, agent, tool and scripted model in this process; only the store differs. A
job is four completions, three of which call a tool. CPU is this process's and Redis's;
operations and bytes are what Redis counts.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from orchestrator import AsyncOrchestrator, load_settings
from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.parts import OrchestratorParts
from orchestrator.wiring import connect
from tests.faults.figures.report import say
from tests.faults.restartable_redis import RestartableRedis
from workers import tool
from workers.agent_manager import LocalAgentManager
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.in_process import ExecutorQueue
from workers.llm.provider import CompletionRequest
from workers.llm.reply import Reply, ScriptedCall
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry

TOOL_CALLS = 3
STEPS = 2 * TOOL_CALLS + 1
AT_ONCE = 50


class Spent(NamedTuple):
    """CPU seconds here and in Redis, commands and bytes there."""

    client: float
    server: float
    calls: int
    received: int
    sent: int


@tool(effect="pure")
def look(place: int) -> str:
    """Say what stands at a place."""
    return f"nothing of note stands at place {place}"


def _reply(request: CompletionRequest) -> Reply:
    done = sum(message.role == "tool" for message in request.messages)
    if done == TOOL_CALLS:
        return Reply(text="nothing of note stands anywhere")
    return Reply(tool_calls=(ScriptedCall(name="look", arguments={"place": done}),))


async def measure(tasks: int) -> None:
    server = RestartableRedis()
    server.start()
    try:
        settings = load_settings(
            storage={"redis_url": server.url, "broker_url": f"{server.url}?db=1"}
        )
        durable = connect(settings)
        memory = replace(durable, store=InMemoryTaskStore(known_agents=("job",)))
        for parts in (memory, durable):  # once without measuring: imports, scripts
            await _spend(server, parts, AT_ONCE)
        plain = await _spend(server, memory, tasks)
        kept = await _spend(server, durable, tasks)
        await durable.aclose()
    finally:
        server.close()
    steps = tasks * STEPS
    client = (kept.client - plain.client) / steps * 1e3
    redis = (kept.server - plain.server) / steps * 1e3
    say(
        f"cost of durability, {tasks} jobs of {STEPS} steps: {client:.2f} ms CPU a step"
        f" in the worker and {redis:.2f} ms in Redis; {client * STEPS:.1f} and"
        f" {redis * STEPS:.1f} ms a job, beside {plain.client / tasks * 1e3:.1f} ms in"
        f" memory; {kept.calls / steps:.1f} script calls, {kept.received / steps:.0f}"
        f" bytes in and {kept.sent / steps:.0f} out a step"
    )


async def _spend(
    server: RestartableRedis, parts: OrchestratorParts, tasks: int
) -> Spent:
    async with _running(parts) as celeriac:
        before = _now(server)
        for start in range(0, tasks, AT_ONCE):
            count = min(AT_ONCE, tasks - start)
            handles = [
                await celeriac.submit("job", {"prompt": "look"}) for _ in range(count)
            ]
            await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
        after = _now(server)
    return Spent(*(b - a for a, b in zip(before, after, strict=True)))


@asynccontextmanager
async def _running(parts: OrchestratorParts) -> AsyncIterator[AsyncOrchestrator]:
    tools = ToolRegistry()
    tools.register(look)
    manager = LocalAgentManager(ScriptedLLMProvider(replies=_reply), tools)
    manager.register_agent(AgentConfig(name="job", tools=("look",)))
    queue = ExecutorQueue(asyncio.get_running_loop(), slots=AT_ONCE)
    parts = replace(parts, queue=queue, agents={"job": AgentConfig(name="job")})
    queue.executor = Executor(
        ExecutorParts(
            store=parts.store,
            queue=queue,
            manager=manager,
            conversations=None,
            conversation_config=parts.conversation_config,
        ),
        worker="measured",
        limits=ExecutorLimits(),
    )
    worker = WorkerInfo(
        id="measured",
        hostname="measured",
        pid=os.getpid(),
        agents=(AgentConfig(name="job"),),
        slots=AT_ONCE,
    )
    await parts.directory.announce(worker, ttl_seconds=600)
    try:
        yield AsyncOrchestrator(parts=parts)
    finally:
        await queue.aclose()


def _now(server: RestartableRedis) -> Spent:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with server.client() as client:
        info = client.info()
        evals = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
    return Spent(
        usage.ru_utime + usage.ru_stime,
        info["used_cpu_user"] + info["used_cpu_sys"],
        evals["calls"],
        info["total_net_input_bytes"],
        info["total_net_output_bytes"],
    )
