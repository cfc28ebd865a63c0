"""What happens to a tool call whose outcome a crash hid, by its declared effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from conversations.conversation import ConversationConfig
from conversations.message import ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.journal import Action, Decision, StepStart
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation, Lease, Started
from orchestrator.task import Task, TaskStatus
from tests.unit.workers.agents.silent_queue import SilentQueue
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.errors import InvalidAgent
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Interrupt, Run
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Effect, Outcome, ToolContext, Verify, tool

DEADLINE_SECONDS = 10.0


@dataclass
class CallingAgent:
    """Calls `pay` for each name together and answers with what it gave."""

    names: str = "ab"

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        calls = [
            ToolCall(id=name, name="pay", arguments={"to": name}) for name in self.names
        ]
        results = await asyncio.gather(*(ctx.call_tool(call) for call in calls))
        return AgentResult(content=" ".join(result.content for result in results))


@dataclass
class Till:
    """A tool whose first call of `a` dies between its effect and its record."""

    store: InMemoryTaskStore
    executor: Executor
    paid: list[str]
    keys: list[str]
    dead: asyncio.Event

    async def submit(self) -> Task:
        (creation,) = await self.store.create([Task(agent_name="agent")])
        assert isinstance(creation, Creation)
        return creation.task

    async def crash(self) -> Task:
        """Run a task until its worker vanishes in the middle of a call."""
        task = await self.submit()
        run = asyncio.create_task(self.executor.run(task.tenant, task.id))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.dead.wait()
            self.executor.runs[task.tenant, task.id].interrupt(Interrupt.LEASE_LOST)
            assert (await run).word == "lease_lost"
            while (await self.get(task)).status is not TaskStatus.PENDING:
                await self.store.sweep()
                await asyncio.sleep(0.005)
        return task

    async def get(self, task: Task) -> Task:
        return await self.store.get(task.tenant, task.id)

    async def resume(self, task: Task) -> tuple[str, Task]:
        async with asyncio.timeout(DEADLINE_SECONDS):
            outcome = await self.executor.run(task.tenant, task.id)
        return outcome.word, await self.get(task)

    async def events(self, task: Task) -> list[str]:
        return [event.type for event in await self.store.events("default", task.id)]

    async def resolve(self, task: Task, action: Action, output: object = None) -> None:
        decision = Decision(key="tool:0:a", action=action, output=output)
        await self.store.resolve(task.tenant, task.id, decision)


class InterruptingStore(InMemoryTaskStore):
    """Its worker is told to go as the first mark has been written."""

    run: Callable[[], Run] | None = None
    reason = Interrupt.DRAIN

    async def start_step(self, lease: Lease, start: StepStart) -> Started:
        started = await super().start_step(lease, start)
        if self.run is not None:
            self.run().interrupt(self.reason)
            self.run = None
        await asyncio.sleep(0)  # the answer's way
        return started


def make_till(
    effect: Effect,
    verify: Verify | None = None,
    *,
    names: str = "ab",
    store: InMemoryTaskStore | None = None,
) -> Till:
    paid: list[str] = []
    keys: list[str] = []
    dead = asyncio.Event()

    @tool(effect=effect, verify=verify)
    async def pay(ctx: ToolContext, to: str) -> str:
        """Pay somebody."""
        paid.append(to)
        keys.append(ctx.idempotency_key)
        if paid == ["a", "b"]:
            dead.set()
        if to == "a" and paid.count("a") == 1:
            await asyncio.Event().wait()
        if to not in "ab":  # others come to their boundary meanwhile
            await asyncio.sleep(0.01)
        return f"paid {to}"

    store = store or InMemoryTaskStore()
    manager = LocalAgentManager(ScriptedLLMProvider(), ToolRegistry([pay]))
    config = AgentConfig(name="agent", tools=("pay",))
    manager.register_agent(config, CallingAgent(names))
    parts = ExecutorParts(
        store=store,
        queue=SilentQueue(),
        manager=manager,
        conversations=None,
        conversation_config=ConversationConfig(),
    )
    limits = ExecutorLimits(lease_seconds=0.05)
    return Till(store, Executor(parts, worker="w", limits=limits), paid, keys, dead)


@pytest.mark.parametrize("effect", ["pure", "idempotent"])
async def test_a_harmless_call_is_made_again_with_the_same_key(effect: Effect) -> None:
    till = make_till(effect)
    word, task = await till.resume(await till.crash())
    assert word == "completed"
    assert task.result is not None
    assert task.result.content == "paid a paid b"
    assert till.paid == ["a", "b", "a"]
    assert till.keys[0] == till.keys[2]
    assert task.unknown_outcomes == 0


async def test_a_once_call_waits_for_a_person_and_is_not_made_again() -> None:
    till = make_till("once")
    word, task = await till.resume(await till.crash())
    assert (word, task.status) == ("waiting", TaskStatus.WAITING)
    (awaited,) = task.awaiting
    assert (awaited.tool, awaited.arguments) == ("pay", {"to": "a"})
    assert awaited.begun_at is not None
    assert till.paid == ["a", "b"]
    assert "tool_call.unknown" in await till.events(task)
    assert till.executor.runs == {}


@pytest.mark.parametrize("names", ["c", "cd"])
async def test_a_drain_between_mark_and_call_asks_nobody(names: str) -> None:
    """Nor does one at the boundary of a call that is made beside it."""
    store = InterruptingStore()
    till = make_till("once", names=names, store=store)
    task = await till.submit()
    store.run = lambda: till.executor.runs[task.tenant, task.id]
    word, task = await till.resume(task)
    assert store.run is None
    if word == "released":
        word, task = await till.resume(task)
    assert (word, till.paid) == ("completed", list(names))


@pytest.mark.parametrize("names", ["c", "cd"])
async def test_a_grace_that_ends_while_a_call_is_marked_asks_nobody(names: str) -> None:
    store = InterruptingStore()
    store.reason = Interrupt.GRACE_OVER
    till = make_till("once", names=names, store=store)
    task = await till.submit()
    store.run = lambda: till.executor.runs[task.tenant, task.id]
    word, task = await till.resume(task)
    assert (word, store.run, till.paid) == ("released", None, [])
    word, task = await till.resume(task)
    assert (word, till.paid) == ("completed", list(names))


async def test_a_call_that_was_done_gives_the_output_of_the_decision() -> None:
    till = make_till("once")
    _, task = await till.resume(await till.crash())
    await till.resolve(task, Action.DONE, {"receipt": 7})
    word, task = await till.resume(task)
    assert word == "completed"
    assert task.result is not None
    assert task.result.content == '{"receipt":7} paid b'
    assert till.paid == ["a", "b"]


async def test_a_call_that_was_not_done_is_made() -> None:
    till = make_till("once")
    _, task = await till.resume(await till.crash())
    await till.resolve(task, Action.RUN)
    word, task = await till.resume(task)
    assert word == "completed"
    assert till.paid == ["a", "b", "a"]


async def test_a_decision_can_end_the_task() -> None:
    till = make_till("once")
    _, task = await till.resume(await till.crash())
    await till.resolve(task, Action.FAIL)
    _, task = await till.resume(task)
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert task.failure.code == "unknown_outcome"
    assert till.paid == ["a", "b"]


async def test_verify_settles_a_call_that_was_done() -> None:
    async def found(ctx: ToolContext, arguments: object) -> Outcome:
        return Outcome(done=True, output=f"receipt {ctx.idempotency_key}")

    till = make_till("once", found)
    word, task = await till.resume(await till.crash())
    assert word == "completed"
    assert task.result is not None
    assert task.result.content == f"receipt {till.keys[0]} paid b"
    assert till.paid == ["a", "b"]


async def test_verify_may_be_a_plain_function_and_let_the_call_be_made() -> None:
    till = make_till("once", lambda ctx, arguments: Outcome(done=False))
    word, _ = await till.resume(await till.crash())
    assert word == "completed"
    assert till.paid == ["a", "b", "a"]


@pytest.mark.parametrize(
    "verify",
    [
        lambda ctx, arguments: Outcome(done=None),
        lambda ctx, arguments: 1 / 0,
        lambda ctx, arguments: True,
    ],
    ids=["cannot tell", "raises", "gives no outcome"],
)
async def test_a_person_is_asked_when_verify_cannot_tell(verify: Verify) -> None:
    till = make_till("once", verify)
    word, _ = await till.resume(await till.crash())
    assert word == "waiting"
    assert till.paid == ["a", "b"]


def test_verify_belongs_to_once() -> None:
    with pytest.raises(InvalidAgent, match="verify is for effect 'once'"):

        @tool(effect="pure", verify=lambda ctx, arguments: Outcome(done=True))
        def look(word: str) -> str:
            """Look something up."""
            return word
