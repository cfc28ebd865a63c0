"""When a run's last step is recorded: with its end, or before others' code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from conversations.conversation import ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from conversations.message import Message, Role, ToolCall
from conversations.stored_service import StoredConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import StoreFull
from orchestrator.events import EventType
from orchestrator.journal import Step
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation, Doorbell, Ending, LastStep, Lease, Recorded
from orchestrator.task import StopReason, Task, TaskStatus
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import Agent, AgentInput, AgentResult, RunContext
from workers.agents.llm_agent import LLMAgent
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.provider import Completion
from workers.llm.scripted import Script, ScriptedLLMProvider
from workers.run import Interrupt
from workers.tools.registry import ToolRegistry
from workers.tools.tool import tool

CALL = Completion(
    message=Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="1", name="look"),))
)
SCHEMA = {"type": "object"}


@tool(effect="pure")
async def look() -> str:
    """Look."""
    return "seen"


class WatchedStore(InMemoryTaskStore):
    """Notes what is recorded alone and what with an end; may refuse."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.alone: list[str] = []
        self.with_end: list[str] = []
        self.refuses = 0
        self.is_ending = asyncio.Event()
        self.hangs = False

    async def record_step(
        self, lease: Lease, step: Step, *args: Any, **options: Any
    ) -> Recorded:
        recorded = await super().record_step(lease, step, *args, **options)
        self.alone.append(step.key)
        return recorded

    async def finish(
        self,
        lease: Lease,
        ending: Ending,
        *,
        running_seconds: float,
        last: LastStep | None = None,
    ) -> tuple[Doorbell, ...]:
        self.is_ending.set()
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.refuses:
            self.refuses -= 1
            raise StoreFull("Redis is out of memory; free some")
        bells = await super().finish(
            lease, ending, running_seconds=running_seconds, last=last
        )
        self.with_end += [last.step.key] if last else []
        return bells


class Stand:
    """One agent on a store that is watched."""

    def __init__(
        self,
        replies: Script,
        agent: Agent | None = None,
        *,
        max_result_bytes: int = 10_000,
        redact: Callable[[Message], Message] | None = None,
        **config: Any,
    ) -> None:
        conversations = InMemoryConversationStore()
        self.conversations = conversations
        self.store = WatchedStore(conversations=conversations, redact=redact)
        self.llm = ScriptedLLMProvider(replies=replies)
        manager = LocalAgentManager(self.llm, ToolRegistry([look]))
        manager.register_agent(
            AgentConfig(name="agent", tools=["look"], **config), agent
        )
        parts = ExecutorParts(
            store=self.store,
            queue=self,
            manager=manager,
            conversations=StoredConversationService(conversations),
            conversation_config=ConversationConfig(),
        )
        limits = ExecutorLimits(
            max_result_bytes=max_result_bytes, store_patience_seconds=5.0
        )
        self.executor = Executor(parts, worker="w", limits=limits)

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None: ...

    async def aclose(self) -> None: ...

    async def submit(self, **fields: Any) -> Task:
        fields = {"input": {"prompt": "hi"}, "conversation_id": "c"} | fields
        (creation,) = await self.store.create([Task(agent_name="agent", **fields)])
        assert isinstance(creation, Creation)
        return creation.task

    async def run(self, **fields: Any) -> Task:
        task = await self.submit(**fields)
        await self.executor.run("default", task.id)
        return await self.store.get("default", task.id)

    async def steps(self, task: Task) -> list[str]:
        return [each.key for each in await self.store.steps("default", task.id)]


async def test_the_last_completion_is_recorded_with_the_end() -> None:
    stand = Stand([CALL, "Done."])
    task = await stand.run()
    assert task.status is TaskStatus.COMPLETED
    assert stand.store.alone == ["completion:1", "tool:1:1"]
    assert stand.store.with_end == ["completion:2"]
    steps = ["completion:1", "tool:1:1", "completion:2"]
    assert await stand.steps(task) == steps
    assert task.result is not None
    assert task.result.stats.completions == 2


class Wrapping:
    """A user's agent around ours: it sees the answer first."""

    def __init__(self, store: list[WatchedStore]) -> None:
        self._store = store

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        answer = await LLMAgent().run(ctx, agent_input)
        assert self._store[0].alone == ["completion:1"]
        return answer


class Inheriting(LLMAgent):
    """A user's agent made of ours."""


async def test_whoever_has_code_of_their_own_finds_every_answer_recorded() -> None:
    seen: list[WatchedStore] = []
    for agent in (Wrapping(seen), Inheriting()):
        stand = Stand(["Done."], agent)
        seen[:] = [stand.store]
        task = await stand.run()
        assert task.status is TaskStatus.COMPLETED
        assert (stand.store.alone, stand.store.with_end) == (["completion:1"], [])


class Answering:
    """A user's agent whose answer no completion has said."""

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        if self._asks:
            await LLMAgent().run(ctx, agent_input)
        return AgentResult(content="in other words")


@pytest.mark.parametrize("asks", [False, True])
async def test_an_answer_that_no_completion_has_said_is_recorded_with_the_end(
    *, asks: bool
) -> None:
    stand = Stand(["Done."], Answering(asks=asks))
    task = await stand.run()
    assert task.status is TaskStatus.COMPLETED
    said = ["completion:1"] if asks else []
    assert (stand.store.alone, stand.store.with_end) == (said, ["answer"])
    events = await stand.store.events("default", task.id)
    assert [each.type for each in events[-4:]] == [
        EventType.TEXT_DONE,
        EventType.PART_DONE,
        EventType.ITEM_DONE,
        EventType.TASK_COMPLETED,
    ]


async def test_an_answer_that_is_too_large_is_recorded_with_the_failure() -> None:
    stand = Stand([], Answering(asks=False), max_result_bytes=5)
    task = await stand.run()
    assert task.failure is not None
    assert task.failure.code == "result_too_large"
    assert await stand.steps(task) == ["answer"]


@pytest.mark.parametrize("by", ["config", "parameters"])
async def test_an_answer_is_recorded_before_a_schema_is_held_against_it(
    by: str,
) -> None:
    config = {"output_schema": SCHEMA} if by == "config" else {}
    stand = Stand(["no JSON", "{}"], **config)
    fields = {"parameters": {"output_schema": SCHEMA}} if by == "parameters" else {}
    task = await stand.run(**fields)
    assert task.status is TaskStatus.COMPLETED
    assert stand.store.alone == ["completion:1", "completion:2"]


async def test_an_answer_that_was_not_the_last_is_recorded_before_the_next() -> None:
    stand: Stand

    def answer(_: object) -> str:
        assert stand.store.alone == [
            f"completion:{n}" for n in range(1, len(stand.llm.requests))
        ]
        return "I will not call."

    stand = Stand(answer)
    task = await stand.run(parameters={"tool_choice": "required"})
    assert task.status is TaskStatus.COMPLETED
    assert (stand.store.alone, stand.store.with_end) == (
        ["completion:1"],
        ["completion:2"],
    )


async def test_the_answer_of_a_run_that_fails_afterwards_is_recorded() -> None:
    stand = Stand(["long " * 100], max_result_bytes=100)
    task = await stand.run()
    assert task.failure is not None
    assert task.failure.code == "result_too_large"
    assert await stand.steps(task) == ["completion:1"]
    stored = await stand.conversations.read("default", "c")
    assert stored[-1].message.content.startswith("long long")


async def test_the_last_answer_of_a_stopped_run_goes_with_its_partial_end() -> None:
    stand = Stand([CALL, "So far."], max_turns=1)
    task = await stand.run()
    assert task.result is not None
    assert task.result.stop_reason is StopReason.MAX_TURNS
    assert stand.store.with_end == ["completion:2"]


async def test_a_store_that_refuses_gets_answer_and_end_together_later() -> None:
    stand = Stand(["Done."])
    stand.store.refuses = 2
    task = await stand.run()
    assert task.status is TaskStatus.COMPLETED
    assert (stand.store.alone, stand.store.with_end) == ([], ["completion:1"])
    assert len(stand.llm.requests) == 1


async def test_a_run_that_is_ended_from_outside_has_its_answer_recorded() -> None:
    stand = Stand(["Done."])
    stand.store.hangs = True
    task = await stand.submit()
    running = asyncio.create_task(stand.executor.run("default", task.id))
    await stand.store.is_ending.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(10):
        while not stand.store.alone:
            await asyncio.sleep(0)
    assert await stand.steps(task) == ["completion:1"]


def without_bob(message: Message) -> Message:
    if "Bob" in message.content and message.role in FORBIDDEN:
        raise ValueError("the hook knows no Bob")
    return message


FORBIDDEN: set[Role] = set()


@pytest.mark.parametrize(
    ("role", "kept"), [(Role.ASSISTANT, []), (Role.USER, ["completion:1"])]
)
async def test_a_redaction_that_fails_keeps_an_answer_that_it_can_take(
    role: Role, kept: list[str]
) -> None:
    FORBIDDEN.clear()
    stand = Stand(["Hello Bob"], redact=without_bob)
    task = await stand.submit(input={"prompt": "I am Bob"})
    FORBIDDEN.add(role)
    await stand.executor.run("default", task.id)
    FORBIDDEN.clear()
    ended = await stand.store.get("default", task.id)
    assert ended.failure is not None
    assert ended.failure.code == "redaction_failed"
    assert await stand.steps(task) == kept


async def test_an_answer_whose_record_a_cancel_cuts_off_goes_with_the_end() -> None:
    stand = Stand(["I will not call."] * 2)
    task = await stand.submit(parameters={"tool_choice": "required"})
    is_recording, record = asyncio.Event(), stand.store.record_step

    async def hang(*_: Any, **__: Any) -> Recorded:
        is_recording.set()
        await asyncio.Event().wait()
        raise AssertionError

    stand.store.record_step = hang  # type: ignore[method-assign]
    running = asyncio.create_task(stand.executor.run("default", task.id))
    await asyncio.wait_for(is_recording.wait(), 5)
    stand.store.record_step = record  # type: ignore[method-assign]
    stand.executor.runs["default", task.id].interrupt(Interrupt.CANCEL)
    await running
    assert await stand.steps(task) == ["completion:1"]
