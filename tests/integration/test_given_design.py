"""The given design's own integration tests, line for line in Python."""

from __future__ import annotations

import asyncio

from orchestrator.agent_config import AgentConfig
from orchestrator.settings import load_settings
from orchestrator.task import Task, TaskStatus
from workers.agent_manager import LocalAgentManager
from workers.agents.researcher import ResearcherAgent
from workers.errors import RequestRejected
from workers.in_process import open_orchestrator
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.document_summarizer import DocumentSummarizer
from workers.tools.registry import ToolRegistry


async def test_agent_manager_executes_a_task() -> None:
    llm = ScriptedLLMProvider("http://localhost:11434/v1", model="gpt-oss:20b")
    tools = ToolRegistry()
    tools.register(DocumentSummarizer())
    manager = LocalAgentManager(llm, tools)
    manager.register_agent(AgentConfig(name="researcher"), ResearcherAgent())

    task = Task(agent_name="researcher", input={"query": "test query"})
    result = await manager.execute_task(task)

    assert result.task_id == task.id
    assert result.status is TaskStatus.COMPLETED
    assert result.content
    (info,) = manager.list_agents()
    assert info.health.successes == 1
    assert info.health.last_success_at is not None


async def test_orchestrator_stores_each_status_of_a_task() -> None:
    answers = iter(["An answer.", RequestRejected("the endpoint has no such model")])
    answer_now = asyncio.Event()

    class WaitingProvider(ScriptedLLMProvider):
        async def complete(self, request):
            await answer_now.wait()
            return await super().complete(request)

    llm = WaitingProvider(replies=lambda _: next(answers))
    manager = LocalAgentManager(llm, ToolRegistry())
    manager.register_agent(AgentConfig(name="researcher"), ResearcherAgent())
    async with open_orchestrator(load_settings(), manager=manager) as orchestrator:
        task = Task(agent_name="researcher", input={"query": "test query"})
        task_id = await orchestrator.execute_async(task)
        assert task_id == task.id
        seen = [TaskStatus.PENDING]
        async for event in orchestrator.events(task_id):
            if event.type == "task.started":
                seen.append((await orchestrator.get(task_id)).status)
                answer_now.set()
        seen.append((await orchestrator.get(task_id)).status)
        assert seen == ["pending", "running", "completed"]

        failing = await orchestrator.execute_async(
            Task(agent_name="researcher", input={"query": "another"})
        )
        async for _ in orchestrator.events(failing):
            pass
        stored = await orchestrator.get(failing)
        assert stored.status is TaskStatus.FAILED
        assert stored.failure is not None
        assert "no such model" in stored.failure.message
