"""A run without a store, around a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from conversations.message import Message, Role
from orchestrator.agent_config import AgentConfig
from orchestrator.journal import Journal, Step
from orchestrator.task import Task
from workers.agents.agent import Agent, AgentInput, AgentResult
from workers.llm.run_provider import UngovernedProvider
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.run_log import DetachedRunLog
from workers.tools.registry import ToolRegistry


class RecordingLog(DetachedRunLog):
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.recorded = asyncio.Condition()

    async def record(
        self,
        step: Step,
        events: Any,
        *,
        dues: Any = None,
        then: Any = None,
        may_wait: bool = False,
    ) -> Step:
        async with self.recorded:
            self.steps.append(step)
            self.recorded.notify_all()
        return step

    async def wait_for_step(self, ending: str) -> None:
        async with asyncio.timeout(5), self.recorded:
            await self.recorded.wait_for(
                lambda: any(step.key.endswith(ending) for step in self.steps)
            )


class Bench:
    """Runs an agent once and keeps what it asked and did."""

    def __init__(
        self,
        replies: Script,
        *,
        tools: Iterable[Any] = (),
        soft_time_limit_seconds: float | None = None,
        **config: Any,
    ) -> None:
        self.llm = ScriptedLLMProvider(replies=replies)
        self.log = RecordingLog()
        self.registry = ToolRegistry(tools)
        self.config = AgentConfig(
            **{"name": "tested", "tools": self.registry.names, **config}
        )
        self.run = Run(
            Task(agent_name="tested", soft_time_limit_seconds=soft_time_limit_seconds)
        )

    async def execute(
        self,
        agent: Agent,
        data: Any,
        *,
        steps: Iterable[Step] = (),
        **given: Any,
    ) -> AgentResult:
        context = JournaledRunContext(
            self.run,
            config=self.config,
            log=self.log,
            llm=UngovernedProvider(self.llm),
            tools=self.registry,
            journal=Journal(tuple(steps)),
        )
        return await agent.run(context, AgentInput(data=data, **given))

    def prompt(self, number: int) -> list[Message]:
        return list(self.llm.requests[number].messages)


def assert_valid_turn(messages: tuple[Message, ...]) -> None:
    """Every call has its result right after it, and the turn ends with an answer."""
    assert messages[0].role is Role.USER
    assert messages[-1].role is Role.ASSISTANT
    assert not messages[-1].tool_calls
    open_calls: list[str] = []
    for message in messages:
        if message.role is Role.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert open_calls == []
        open_calls += [call.id for call in message.tool_calls]
