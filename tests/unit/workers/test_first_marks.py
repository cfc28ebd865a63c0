"""When a run's first completion is marked with its claim, and when that is undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from conversations.conversation import ConversationConfig
from conversations.errors import ConversationStoreUnavailable, ConversationUnreadable
from conversations.memory_store import InMemoryConversationStore
from conversations.stored_service import StoredConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.journal import StepStart
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Claim, Creation, Doorbell, Lease, Started
from orchestrator.task import RetryPolicy, Task, TaskStatus
from workers import begun_ahead
from workers.agent_manager import Execution, LocalAgentManager, RunStart
from workers.agents.agent import Agent, AgentInput, AgentResult, RunContext
from workers.agents.llm_agent import LLMAgent
from workers.errors import AgentFailed
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.tools.registry import ToolRegistry


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mark lapses because the machine is busy."""
    monkeypatch.setattr(begun_ahead, "AHEAD_SECONDS", 60.0)


class MarkingStore(InMemoryTaskStore):
    """Notes which marks are written alone and which are taken back."""

    def __init__(self, conversations: InMemoryConversationStore | None) -> None:
        super().__init__(conversations=conversations)
        self.marked: list[str] = []
        self.dropped: list[str] = []

    async def start_step(self, lease: Lease, start: StepStart) -> Started:
        self.marked.append(start.key)
        return await super().start_step(lease, start)

    async def drop_start(self, lease: Lease, key: str) -> None:
        self.dropped.append(key)
        await super().drop_start(lease, key)


class AwayConversations(InMemoryConversationStore):
    """Cannot be read."""

    def __init__(self, error: type[ConversationStoreUnavailable]) -> None:
        super().__init__()
        self._error = error

    async def read_window(self, *_: object) -> Any:
        raise self._error("conversations are away")


class Stand:
    """One agent on a store that notes marks."""

    made: type[LocalAgentManager] = LocalAgentManager

    def asked(self) -> Any:
        """Return the manager that the executor knows."""
        return self.manager

    def __init__(
        self,
        replies: Script = ("Done.",),
        agent: Agent | None = None,
        *,
        conversations: InMemoryConversationStore | None = None,
        **config: Any,
    ) -> None:
        self.store = MarkingStore(None)
        self.llm = ScriptedLLMProvider(replies=replies)
        self.manager = self.made(self.llm, ToolRegistry())
        self.manager.register_agent(AgentConfig(name="agent", **config), agent)
        known = conversations or InMemoryConversationStore()
        parts = ExecutorParts(
            store=self.store,
            queue=self,
            manager=self.asked(),
            conversations=StoredConversationService(known),
            conversation_config=ConversationConfig(),
        )
        limits = ExecutorLimits(store_patience_seconds=0.0)
        self.executor = Executor(parts, worker="w", limits=limits)

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None: ...

    async def aclose(self) -> None: ...

    async def run(self, **fields: Any) -> Task:
        (creation,) = await self.store.create([Task(agent_name="agent", **fields)])
        assert isinstance(creation, Creation)
        await self.executor.run("default", creation.task.id)
        return await self.store.get("default", creation.task.id)


async def test_a_run_of_one_completion_is_a_claim_and_an_end() -> None:
    stand = Stand()
    task = await stand.run(input={"prompt": "hi"})
    assert task.status is TaskStatus.COMPLETED
    assert (stand.store.marked, stand.store.dropped) == ([], [])


class Own:
    """A user's agent, which need not ask at once."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        return await LLMAgent().run(ctx, agent_input)


class Inheriting(LLMAgent):
    """One that is made of ours."""


@pytest.mark.parametrize("agent", [Own(), Inheriting()])
async def test_of_other_agents_nothing_is_marked_before_it_is_asked(
    agent: Agent,
) -> None:
    stand = Stand(agent=agent)
    assert not stand.manager.asking_at_once
    await stand.run(input={"prompt": "hi"})
    assert (stand.store.marked, stand.store.dropped) == (["completion:1"], [])
    stand.manager.register_agent(AgentConfig(name="agent"))
    assert stand.manager.asking_at_once == {"agent"}
    stand.manager.register_agent(AgentConfig(name="agent"), agent)
    assert not stand.manager.asking_at_once


async def unknown(stand: Stand, task: Task) -> tuple[StepStart, ...]:
    """What the next attempt would have to believe to have been begun."""
    claim = await stand.store.claim(
        "default", task.id, worker="w", serves=["agent"], lease_seconds=30
    )
    assert isinstance(claim, Claim), claim
    return claim.starts


async def test_a_run_that_fails_before_it_asks_leaves_no_mark() -> None:
    stand = Stand(retry=RetryPolicy(max_attempts=1))
    task = await stand.run(parameters={"tools": "none"})
    assert task.failure is not None
    assert task.failure.code == "invalid_parameters"
    assert stand.store.dropped == ["completion:1"]
    assert stand.llm.requests == []


async def test_a_run_whose_conversation_cannot_be_read_leaves_no_mark() -> None:
    away = AwayConversations(ConversationStoreUnavailable)
    stand = Stand(conversations=away, retry=RetryPolicy(backoff_seconds=0))
    task = await stand.run(conversation_id="c")
    assert task.status is TaskStatus.PENDING
    assert stand.store.dropped == ["completion:1"]
    assert await unknown(stand, task) == ()


async def test_a_run_whose_conversation_is_damaged_fails_at_once() -> None:
    stand = Stand(conversations=AwayConversations(ConversationUnreadable))
    task = await stand.run(conversation_id="c")
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert (task.failure.code, task.failure.retryable) == ("damaged", False)
    assert stand.store.dropped == ["completion:1"]
    assert stand.llm.requests == []


async def test_a_drained_run_leaves_no_mark() -> None:
    stand = Stand()
    executor, claim = stand.executor, stand.store.claim

    async def claim_and_drain(*args: Any, **options: Any) -> object:
        claimed = await claim(*args, **options)
        executor.drain()
        return claimed

    stand.store.claim = claim_and_drain  # type: ignore[method-assign]
    task = await stand.run(input={"prompt": "hi"})
    assert task.status is TaskStatus.PENDING
    stand.store.claim = claim  # type: ignore[method-assign]
    assert stand.store.dropped == ["completion:1"]
    assert await unknown(stand, task) == ()
    assert stand.llm.requests == []


class Refusing(LocalAgentManager):
    """Ends a run before it is anything of ours."""

    async def execute_run(self, start: RunStart) -> Execution:
        raise AgentFailed("not today")


async def test_a_manager_that_begins_no_run_leaves_no_mark() -> None:
    class Refused(Stand):
        made = Refusing

    stand = Refused()
    task = await stand.run(input={"prompt": "hi"})
    assert task.status is TaskStatus.FAILED
    assert stand.store.dropped == ["completion:1"]


class Bare:
    """A manager of one's own: what every one must have, and no more."""

    def __init__(self, manager: LocalAgentManager) -> None:
        self.names = manager.names
        self.get_config = manager.get_config
        self.execute_run = manager.execute_run


async def test_a_manager_need_not_say_whose_runs_ask_at_once() -> None:
    class Plain(Stand):
        def asked(self) -> Bare:
            return Bare(self.manager)

    stand = Plain()
    task = await stand.run(input={"prompt": "hi"})
    assert task.status is TaskStatus.COMPLETED
    assert stand.store.marked == ["completion:1"]
