"""An executor with one agent on the in-memory store, and all around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from conversations.conversation import ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import QueueUnavailable
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation, Doorbell
from orchestrator.task import Task
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.scripted import ScriptedLLMProvider

Work = Callable[[RunContext, AgentInput], object]


class FunctionAgent:
    """An agent that is one async function."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        answer = await self._work(ctx, agent_input)
        return (
            answer if isinstance(answer, AgentResult) else AgentResult(content=answer)
        )


class RecordingQueue:
    """Keeps what was rung for; the broker can be away."""

    def __init__(self) -> None:
        self.rung: list[Doorbell] = []
        self.away = False

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        if self.away:
            raise QueueUnavailable("the broker is away")
        self.rung.extend(doorbells)

    async def aclose(self) -> None: ...


@dataclass
class Bench:
    """An executor with one agent and all around it."""

    store: InMemoryTaskStore
    queue: RecordingQueue
    conversations: InMemoryConversationStore
    llm: ScriptedLLMProvider
    manager: LocalAgentManager
    executor: Executor

    async def submit(self, **fields: object) -> Task:
        (creation,) = await self.store.create([Task(agent_name="agent", **fields)])
        assert isinstance(creation, Creation)
        return creation.task

    def agent(self, work: Work, **config: object) -> None:
        self.manager.register_agent(
            AgentConfig(name="agent", **config), FunctionAgent(work)
        )

    async def run(self, task: Task) -> tuple[str, Task]:
        outcome = await self.executor.run(task.tenant, task.id)
        return outcome.word, await self.store.get(task.tenant, task.id)


async def until_running(bench: Bench, task: Task) -> asyncio.Task[tuple[str, Task]]:
    running = asyncio.create_task(bench.run(task))
    while (task.tenant, task.id) not in bench.executor.runs:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    return running


S = TypeVar("S", bound=InMemoryTaskStore)


def other_store(bench: Bench, store: S) -> tuple[Executor, S]:
    parts = ExecutorParts(
        store=store,
        queue=bench.queue,
        manager=bench.manager,
        conversations=None,
        conversation_config=ConversationConfig(),
    )
    return Executor(parts, worker="w", limits=ExecutorLimits()), store
