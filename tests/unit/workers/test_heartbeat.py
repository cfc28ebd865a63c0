"""A loop that stands still: whose callback blocks it is found and told the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conversations.conversation import ConversationConfig
from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.loop_thread import LoopThread
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation
from orchestrator.sweeper import Sweeper
from orchestrator.task import Task, TaskStatus
from tests.unit.workers.agents.silent_queue import SilentQueue
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.heartbeat import Heartbeat, HeartbeatParts, HeartbeatTimes
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry

BLOCKED_SECONDS = 1.5
DEADLINE_SECONDS = 10.0


class Patient:
    """Waits as long as it takes."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        await asyncio.Event().wait()
        return AgentResult()


class Blocker:
    """Blocks the loop in a step."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        async def block() -> None:
            time.sleep(BLOCKED_SECONDS)  # noqa: TID251 - the fault under test

        await ctx.step("block", block)
        return AgentResult()


async def test_only_the_run_that_blocks_the_loop_is_charged() -> None:
    store, directory, loop = (
        InMemoryTaskStore(),
        InMemoryAgentDirectory(),
        LoopThread("runs"),
    )
    manager = LocalAgentManager(ScriptedLLMProvider(), ToolRegistry())
    manager.register_agent(AgentConfig(name="patient"), Patient())
    manager.register_agent(AgentConfig(name="blocker"), Blocker())
    parts = ExecutorParts(
        store=store,
        queue=SilentQueue(),
        manager=manager,
        conversations=None,
        conversation_config=ConversationConfig(),
    )
    executor = Executor(parts, worker="w", limits=ExecutorLimits())

    @asynccontextmanager
    async def connect() -> AsyncIterator[HeartbeatParts]:
        sweeper = Sweeper(store, SilentQueue(), interval_seconds=0.05)
        yield HeartbeatParts(store=store, directory=directory, sweeper=sweeper)

    heartbeat = Heartbeat(
        executor,
        runs_loop=loop.loop,
        describe=lambda: WorkerInfo(id="w", hostname="h", pid=1),
        connect=connect,
        times=HeartbeatTimes(renew_seconds=0.05, stall_limit_seconds=0.3),
    )
    heartbeat.start()
    creations = await store.create(
        [Task(agent_name=name) for name in ("patient", "blocker")]
    )
    patient, blocker = [c.task.id for c in creations if isinstance(c, Creation)]
    runs = [
        asyncio.run_coroutine_threadsafe(executor.run("default", task_id), loop.loop)
        for task_id in (patient, blocker)
    ]
    async with asyncio.timeout(DEADLINE_SECONDS):
        for task_id in (patient, blocker):
            while (await store.get("default", task_id)).attempt == 0 or (
                (await store.get("default", task_id)).status is not TaskStatus.PENDING
            ):
                await asyncio.sleep(0.01)
        words = [(await asyncio.wrap_future(run)).word for run in runs]
    assert words == ["lease_lost", "lease_lost"]
    charged = {
        task_id: (await store.get("default", task_id)).crashes
        for task_id in (patient, blocker)
    }
    assert charged == {patient: 0, blocker: 1}
    await asyncio.to_thread(heartbeat.close)
    loop.close()
