"""Endpoints behind gates and budgets, and the context of one run that asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from conversations.message import Message, Role
from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Account
from orchestrator.dues import Needs
from orchestrator.events import NewEvent
from orchestrator.gate import Caller, GateLimits, Permit
from orchestrator.journal import StepStart
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_gate import InMemoryGate
from orchestrator.store import Started
from orchestrator.task import Task, Usage
from workers.llm.allowance import Allowance
from workers.llm.endpoints import Endpoints, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_calls import CallRules
from workers.llm.governor import Governor
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.run_log import DetachedRunLog
from workers.tools.registry import ToolRegistry

ASK = CompletionRequest(messages=(Message(role=Role.USER, content="Hello"),))
ONE = GateLimits(in_flight=1)
SOON = 10


class MarkLog(DetachedRunLog):
    """Keeps marks and steps; tells what a gate and a budget held at each mark."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self.marks: list[str] = []
        self.dropped: list[str] = []
        self.steps: list[str] = []
        self.ahead: list[str] = []
        self.at_mark: list[tuple[int, bool]] = []

    async def record(self, step, events, *, dues=None, then=None, may_wait=False):
        self.steps.append(step.key)
        if then is not None:
            self.ahead.append(then.key)
        return step

    async def start(self, start: StepStart) -> Started:
        self.marks.append(start.key)
        spent = await self._stand.budget.spent("default", self._stand.account)
        self.at_mark.append((await self._stand.in_flight(), spent.tokens > 0))
        return Started(is_unknown=False, is_watched=False)

    async def admit(self, start: StepStart, needs: Needs) -> None: ...

    async def drop_start(self, key: str) -> None:
        self.dropped.append(key)

    async def emit(self, events: Sequence[NewEvent], *, unfinished=None) -> None: ...


class Stand:
    """Endpoints that take one call at a time, and the context of one run."""

    may_owe = False

    def __init__(
        self,
        *scripts: list[Any] | ScriptedLLMProvider,
        tools: Sequence[Any] = (),
        park_after: float = 3.0,
        endpoint_class: type[ServedEndpoint] = ServedEndpoint,
        limits: GateLimits = ONE,
        tokens: int | None = 100_000,
    ) -> None:
        self.gate, self.budget = InMemoryGate(), InMemoryBudget()
        self.llms = [
            ScriptedLLMProvider(replies=each) if isinstance(each, list) else each
            for each in scripts
        ]
        self.endpoints = Endpoints(
            tuple(
                endpoint_class(
                    name=f"e{number}",
                    base_url=f"http://e{number}/v1",
                    model=llm.model,
                    provider=llm,
                    limits=limits,
                )
                for number, llm in enumerate(self.llms)
            )
        )
        self.log = MarkLog(self)
        task = Task(agent_name="a")
        self.account = Account(kind="task", name=task.id)
        registry = ToolRegistry(tools)
        config = AgentConfig(
            name="a",
            tools=registry.names,
            budget={"tokens": tokens},
            fallback=[{"endpoint": f"e{n}"} for n in range(1, len(scripts))],
        )
        governor = Governor(
            self.endpoints,
            CallRules(
                Gatekeeper(self.gate, park_after_seconds=park_after),
                Allowance(tenants={}),
                InMemoryToll(gate=self.gate, budget=self.budget),
            ),
        )
        self.context = JournaledRunContext(
            Run(task),
            config=config,
            log=self.log,
            llm=governor.for_run(task, config, may_park=True, may_owe=self.may_owe),
            tools=registry,
        )

    @property
    def gate_name(self) -> str:
        endpoint = self.endpoints.default
        return endpoint.gate_of(endpoint.model)

    async def in_flight(self) -> int:
        return (await self.gate.state(self.gate_name, ONE)).in_flight

    async def occupy(self) -> Permit:
        """Take the only place."""
        other = Caller(
            token=uuid4().hex, tenant="default", task_id="other", priority=5, tokens=1
        )
        permit = await self.gate.enter(self.gate_name, ONE, other)
        assert isinstance(permit, Permit)
        return permit


class Owing(Stand):
    """A stand whose run leaves its dues to the step's record, as a stored one."""

    may_owe = True

    async def tokens(self) -> int:
        return (await self.budget.spent("default", self.account)).tokens

    async def settled(self, tokens: int) -> None:
        """Wait until nothing is out and just so much is spent."""
        async with asyncio.timeout(SOON):
            while (await self.in_flight(), await self.tokens()) != (0, tokens):
                await asyncio.sleep(0.005)


TOOK = Usage(input_tokens=30, output_tokens=12)


def took(content: str = "yes") -> Completion:
    return Completion(message=Message(role=Role.ASSISTANT, content=content), usage=TOOK)
