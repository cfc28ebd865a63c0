"""What the journal holds of steps that wait at their endpoint's gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from conversations.errors import RedactionFailed
from conversations.message import Message, Role, ToolCall
from conversations.view import ConversationView
from conversations.window import Window
from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Account, Reservation
from orchestrator.dues import Needs
from orchestrator.errors import LeaseLost, StoreFull
from orchestrator.events import NewEvent
from orchestrator.gate import Caller, CallOutcome, Departure, GateLimits, Permit
from orchestrator.journal import StepStart
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_gate import InMemoryGate
from orchestrator.store import Started
from orchestrator.task import Task, Usage
from workers.errors import GateClosed, LLMUnavailable
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
from workers.tools.concurrently import gather_or_cancel
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolContext, tool

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

    async def record(self, step, events, *, dues=None, then=None):
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


async def test_a_completion_is_marked_once_it_has_its_permit_and_reservation():
    stand = Stand(["yes"])
    await stand.context.complete(ASK)
    assert stand.log.marks == stand.log.steps == ["completion:1"]
    assert stand.log.at_mark == [(1, True)]


async def test_a_completion_that_waits_at_a_closed_gate_is_not_marked():
    stand = Stand(["no"], park_after=0.0)
    await stand.occupy()
    with pytest.raises(GateClosed):
        await stand.context.complete(ASK)
    assert stand.log.marks == []
    assert stand.llms[0].unused == ["no"]


async def test_a_call_that_was_cut_off_stays_counted_whole():
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Hanging(ScriptedLLMProvider):
        async def complete(self, request: CompletionRequest) -> Completion:
            asked.set()
            await go_on.wait()
            return await super().complete(request)

    stand = Stand(Hanging())
    completing = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        await asked.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    assert stand.log.marks == ["completion:1"]
    assert stand.log.dropped == []
    assert await stand.in_flight() == 0
    assert (await stand.budget.spent("default", stand.account)).tokens > 4096


async def test_a_request_without_an_answer_stays_marked_when_the_next_is_refused():
    lost, refused = LLMUnavailable("lost"), LLMUnavailable("down", status=503)
    stand = Stand([lost], [refused])
    with pytest.raises(LLMUnavailable, match="down"):
        await stand.context.complete(ASK)
    assert len(stand.log.marks) == 2
    assert stand.log.dropped == []


async def test_a_once_tool_waits_at_the_gate_in_its_slot():
    @tool(effect="once")
    async def ask(ctx: ToolContext) -> str:
        """Ask a model."""
        assert ctx.llm is not None
        return (await ctx.llm.complete(ASK)).message.content

    stand = Stand(["yes"], tools=[ask], park_after=0.0)
    permit = await stand.occupy()
    call = ToolCall(id="c", name="ask", arguments={})
    async with asyncio.timeout(SOON):
        calling = asyncio.create_task(stand.context.call_tool(call))
        while not (await stand.gate.state(stand.gate_name, ONE)).waiting:
            await asyncio.sleep(0.005)
        await stand.gate.leave(permit, Departure(outcome=CallOutcome.ANSWERED))
        assert (await calling).content == "yes"


async def test_a_closed_gate_ends_the_attempt_after_the_once_calls_beside_it():
    begun, go_on = asyncio.Event(), asyncio.Event()

    @tool(effect="once")
    async def pay() -> str:
        """Pay."""
        begun.set()
        await go_on.wait()
        return "paid"

    @tool(effect="pure")
    async def ask(ctx: ToolContext) -> str:
        """Ask a model."""
        assert ctx.llm is not None
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        return (await ctx.llm.complete(ASK)).message.content

    stand = Stand(["no"], tools=[pay, ask], park_after=0.0)
    await stand.occupy()
    calls = [ToolCall(id=name, name=name, arguments={}) for name in ("ask", "pay")]
    async with asyncio.timeout(SOON):
        with pytest.raises(GateClosed):
            await gather_or_cancel(stand.context.call_tool(call) for call in calls)
    assert stand.log.steps == ["tool:0:pay"]


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


@pytest.mark.parametrize("where", ["complete", "summarise"])
async def test_a_run_stopped_between_answer_and_record_pays_what_it_took(where: str):
    stand = Owing([took()])
    recording = asyncio.Event()

    async def hang(step: object, events: object, *, dues: object = None) -> None:
        assert dues is not None
        assert await stand.in_flight() == 1
        recording.set()
        await asyncio.get_running_loop().create_future()

    stand.log.record = hang
    view = ConversationView(to_summarise=ASK.messages, window=Window(cut=1))
    work = (
        stand.context.complete(ASK)
        if where == "complete"
        else stand.context.summarise(view)
    )
    running = asyncio.create_task(work)
    async with asyncio.timeout(SOON):
        await recording.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.settled(TOOK.total_tokens)


@pytest.mark.parametrize(
    "error", [LeaseLost("t", fence=1), StoreFull("full"), RedactionFailed("hook")]
)
async def test_a_record_that_fails_still_pays_what_its_call_took(error: Exception):
    stand = Owing([took()])

    async def refuse(step: object, events: object, *, dues: object = None) -> None:
        raise error

    stand.log.record = refuse
    with pytest.raises(type(error)):
        await stand.context.complete(ASK)
    await stand.settled(TOOK.total_tokens)


async def test_a_run_stopped_while_its_answer_is_looked_at_pays_what_it_took():
    looked = asyncio.Event()

    class Looking(ServedEndpoint):
        async def context_of(self, model: str) -> int | None:
            if stand.llms[0].unused:
                return None
            looked.set()
            await asyncio.get_running_loop().create_future()
            raise AssertionError("nobody goes on")

    stand = Owing([took()], endpoint_class=Looking)
    running = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        await looked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.settled(TOOK.total_tokens)


async def test_a_tool_that_crashes_after_its_completion_owes_nothing():
    @tool(effect="pure")
    async def ask(ctx: ToolContext) -> str:
        """Ask a model."""
        assert ctx.llm is not None
        await ctx.llm.complete(ASK)
        assert await stand.in_flight() == 0
        raise ZeroDivisionError

    stand = Owing([took()], tools=[ask])
    call = ToolCall(id="c", name="ask", arguments={})
    result = await stand.context.call_tool(call)
    assert result.error == "tool_failed"
    await stand.settled(TOOK.total_tokens)


async def test_a_recorded_completion_is_not_paid_a_second_time():
    stand = Owing([took()])
    await stand.context.complete(ASK)
    assert stand.log.steps == ["completion:1"]
    assert await stand.in_flight() == 1  # this log pays nothing; the store's does


@pytest.mark.parametrize("what", ["reserve", "enter"])
async def test_what_was_granted_to_a_stopped_run_is_given_back(what: str):
    stand = Owing(["no"])
    granted = asyncio.Event()
    part = stand.budget if what == "reserve" else stand.gate
    grant = getattr(part, what)
    seen: list[object] = []

    async def unheard(*arguments: Any) -> object:
        answer = await grant(*arguments)
        if not seen:
            seen.append(answer)
            granted.set()
            await asyncio.get_running_loop().create_future()
        return answer

    setattr(part, what, unheard)
    running = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        await granted.wait()
    assert isinstance(seen[0], Reservation | Permit)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.settled(0)
    assert stand.llms[0].unused == ["no"]


async def test_who_is_stopped_while_it_waits_holds_nobody_up():
    stand = Owing(["no"])
    permit = await stand.occupy()
    running = asyncio.create_task(stand.context.complete(ASK))
    async with asyncio.timeout(SOON):
        while not (await stand.gate.state(stand.gate_name, ONE)).waiting:
            await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await stand.gate.leave(permit, Departure(outcome=CallOutcome.ANSWERED))
    assert await stand.occupy()


@pytest.mark.parametrize(
    ("limits", "tokens", "ahead"),
    [
        (ONE, None, []),
        (GateLimits(), 100_000, []),
        (GateLimits(), None, ["completion:2"]),
    ],
)
async def test_a_completion_behind_a_gate_or_a_budget_is_not_marked_ahead(
    limits: GateLimits, tokens: int | None, ahead: list[str]
) -> None:
    call = ToolCall(id="c", name="unknown")
    stand = Stand([[call]], limits=limits, tokens=tokens)
    await stand.context.complete(ASK)
    await stand.context.call_tool(call)
    assert stand.log.ahead == ahead
