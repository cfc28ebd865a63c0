"""What a run's context journals, counts and tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from conversations.message import Message, Role, ToolCall
from orchestrator.agent_config import AgentConfig
from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.journal import Journal, Step, StepStart, Unfinished
from orchestrator.store import Started
from orchestrator.store_limits import RESEND_SECONDS
from orchestrator.task import Task
from workers.agents.agent import AgentResult
from workers.errors import GateClosed, SoftTimeLimitReached
from workers.llm.provider import CompletionRequest
from workers.llm.run_provider import UngovernedProvider
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Interrupt, Run
from workers.run_context import JournaledRunContext
from workers.run_log import DetachedRunLog
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolContext, tool

ASK = CompletionRequest(messages=(Message(role=Role.USER, content="Hello"),))


class KeptLog(DetachedRunLog):
    """Keeps what a run writes."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.events: list[NewEvent] = []
        self.starts: list[StepStart] = []
        self.marked_with: dict[str, str] = {}

    async def record(self, step, events, *, dues=None, then=None, may_wait=False):
        self.steps.append(step)
        if then is not None:
            self.marked_with[step.key] = then.key
        self.events.extend(events)
        return step

    async def start(self, start: StepStart) -> Started:
        self.starts.append(start)
        return Started(is_unknown=False, is_watched=False)

    async def drop_start(self, key: str) -> None:
        self.starts = [start for start in self.starts if start.key != key]

    async def emit(self, events: Sequence[NewEvent], *, unfinished=None) -> None:
        self.events.extend(events)


@tool
async def ask_another(ctx: ToolContext, question: str) -> str:
    """Ask a model.

    Args:
        question: What to ask.
    """
    assert ctx.llm is not None
    asked = CompletionRequest(messages=(Message(role=Role.USER, content=question),))
    return (await ctx.llm.complete(asked)).message.content


@tool(effect="pure", timeout_seconds=0.05)
async def ask_aside(ctx: ToolContext) -> str:
    """Ask a model in a task of its own, and wait for it."""
    assert ctx.llm is not None
    await asyncio.wait({asyncio.create_task(ctx.llm.complete(ASK))})
    return "asked"


def make(
    log: DetachedRunLog,
    llm: ScriptedLLMProvider,
    steps: Sequence[Step] = (),
    run: Run | None = None,
) -> JournaledRunContext:
    return JournaledRunContext(
        run or Run(Task(agent_name="a")),
        config=AgentConfig(name="a", model="small", tools=("ask_another",)),
        log=log,
        llm=UngovernedProvider(llm),
        tools=ToolRegistry([ask_another]),
        journal=Journal(tuple(steps)),
    )


async def work(ctx: JournaledRunContext) -> tuple[str, str]:
    completion = await ctx.complete(ASK)
    call = ToolCall(id="c1", name="ask_another", arguments={"question": "Why?"})
    return completion.message.content, (await ctx.call_tool(call)).content


async def test_a_resumed_run_reads_its_steps_and_asks_nothing() -> None:
    log, llm = KeptLog(), ScriptedLLMProvider(replies=["Hi.", "Because."])
    first = make(log, llm)
    answers = await work(first)
    resumed_log = KeptLog()
    resumed = make(resumed_log, ScriptedLLMProvider(replies=[]), log.steps)
    assert await work(resumed) == answers == ("Hi.", "Because.")
    assert resumed_log.events == []
    assert resumed.stats().usage == first.stats().usage


@pytest.mark.parametrize("key", ["completion:1", "tool:1:c1"])
async def test_a_step_in_words_of_another_release_is_left_to_its_workers(
    key: str,
) -> None:
    log = KeptLog()
    await work(make(log, ScriptedLLMProvider(replies=["Hi.", "Because."])))
    steps = [
        step.model_copy(update={"outcome": step.outcome | {"later": 1}})
        if step.key == key
        else step
        for step in log.steps
    ]
    resumed = make(KeptLog(), ScriptedLLMProvider(replies=[]), steps)
    with pytest.raises(GateClosed, match="another release") as given_back:
        await work(resumed)
    assert given_back.value.seconds == RESEND_SECONDS


async def test_tokens_that_a_tool_uses_count_and_go_to_the_agents_model() -> None:
    log, llm = KeptLog(), ScriptedLLMProvider(replies=["Hi.", "Because."])
    ctx = make(log, llm)
    await work(ctx)
    completion, tool_call = log.steps
    assert completion.usage.total_tokens > 0
    assert tool_call.usage.total_tokens > 0
    assert ctx.stats().usage == completion.usage + tool_call.usage
    assert llm.requests[1].model == "small"


async def test_each_item_has_the_next_output_index() -> None:
    log, llm = KeptLog(), ScriptedLLMProvider(replies=["Hi.", "Because."])
    await work(make(log, llm))
    added = [e.data["output_index"] for e in log.events if e.type == "item.added"]
    done = [e.data["output_index"] for e in log.events if e.type == "item.done"]
    assert added == done == [0, 1]


def calls_of(*ids: str) -> list[ToolCall]:
    return [ToolCall(id=each, name="unknown") for each in ids]


async def test_the_last_call_of_a_turn_marks_the_completion_that_follows() -> None:
    log, calls = KeptLog(), calls_of("a", "b")
    ctx = make(log, ScriptedLLMProvider(replies=[calls, "Done."]))
    await ctx.complete(ASK)
    for call in calls:
        assert log.marked_with == {}
        await ctx.call_tool(call)
    assert log.marked_with == {"tool:1:b": "completion:2"}
    await ctx.complete(ASK)
    await ctx.call_tool(ToolCall(id="own", name="unknown"))  # that no model asked for
    assert log.marked_with == {"tool:1:b": "completion:2"}


async def test_a_resumed_run_counts_the_calls_that_were_made_before() -> None:
    log, calls = KeptLog(), calls_of("a", "b")
    first = make(log, ScriptedLLMProvider(replies=[calls]))
    await first.complete(ASK)
    await first.call_tool(calls[0])
    resumed_log = KeptLog()
    resumed = make(resumed_log, ScriptedLLMProvider(replies=[]), log.steps)
    await resumed.complete(ASK)
    for call in calls:
        await resumed.call_tool(call)
    assert resumed_log.marked_with == {"tool:1:b": "completion:2"}


async def test_a_run_that_is_to_stop_marks_nothing_ahead() -> None:
    log, calls = KeptLog(), calls_of("a")
    ctx = make(log, ScriptedLLMProvider(replies=[calls]))
    await ctx.complete(ASK)

    @tool(effect="pure")
    async def last() -> str:
        ctx._run.interrupt(Interrupt.DRAIN)
        return "done"

    call = ToolCall(id="a", name="last")
    await ctx.call_tool(call, registry=ToolRegistry([last]))
    assert [step.key for step in log.steps] == ["completion:1", "tool:1:a"]
    assert log.marked_with == {}


async def test_an_unknown_tool_is_told_to_the_model_and_journaled() -> None:
    log = KeptLog()
    ctx = make(log, ScriptedLLMProvider())
    result = await ctx.call_tool(ToolCall(id="c1", name="rm_rf"))
    assert result.error == "unknown_tool"
    assert "ask_another" in result.content
    assert log.steps[0].key == "tool:0:c1"
    assert EventType.TOOL_CALL_FAILED in [event.type for event in log.events]


async def test_the_same_call_id_in_another_turn_is_another_call() -> None:
    log, llm = KeptLog(), ScriptedLLMProvider(replies=["One.", "Two."])
    ctx = make(log, llm)
    call = ToolCall(id="call_1", name="unknown")
    for _ in range(2):
        await ctx.complete(ASK)
        await ctx.call_tool(call)
    keys = [step.key for step in log.steps]
    assert keys == ["completion:1", "tool:1:call_1", "completion:2", "tool:2:call_1"]


async def test_progress_reaches_viewers() -> None:
    log = KeptLog()
    await make(log, ScriptedLLMProvider()).progress("half way", pages=3)
    (event,) = log.events
    assert event.type is EventType.PROGRESS
    assert event.data == {"message": "half way", "pages": 3}


async def test_an_answer_that_does_not_reach_the_journal_is_kept_as_unfinished() -> (
    None
):
    class CutLog(KeptLog):
        kept: list[Unfinished | None]

        async def record(self, *_, **__):
            raise asyncio.CancelledError

        async def emit(self, events, *, unfinished=None) -> None:
            self.kept = [unfinished]

    log = CutLog()
    ctx = make(log, ScriptedLLMProvider(replies=["Hello you"]))
    with pytest.raises(asyncio.CancelledError):
        await ctx.complete(ASK)
    assert log.kept == [Unfinished("completion:1", "Hello you")]


async def test_a_step_gives_what_a_resumed_run_reads() -> None:
    async def divide() -> Any:
        return (7, 2)

    first = make(log := KeptLog(), ScriptedLLMProvider())
    resumed = make(KeptLog(), ScriptedLLMProvider(), log.steps)
    assert await first.step("divide", divide) == [7, 2]
    assert await resumed.step("divide", divide) == [7, 2]


async def test_a_step_that_awaits_nothing_is_refused_by_its_name() -> None:
    ctx = make(log := KeptLog(), ScriptedLLMProvider())
    with pytest.raises(TypeError, match="step 'count' gave int at once"):
        await ctx.step("count", lambda: 5)
    assert log.steps == []


def test_an_answer_as_data_takes_a_tuple_and_its_refusal_shows_no_value() -> None:
    assert AgentResult(output={"at": (1, 2)}).output == {"at": [1, 2]}
    with pytest.raises(ValidationError) as refused:
        AgentResult(output={"secret"})
    assert "not JSON (type set)" in str(refused.value)
    assert "secret" not in str(refused.value)


async def nothing() -> None:
    """Do it."""


WAITS = {
    "messages": lambda ctx: ctx.take_messages(),
    "calls of the client": lambda ctx: ctx.hand_over(()),
    "an answer of its own": lambda ctx: ctx.conclude("It is so."),
}


@pytest.mark.parametrize("work", WAITS)
async def test_a_soft_limit_while_the_store_is_asked_is_told_at_the_next_step(
    work: str,
) -> None:
    class SlowLog(DetachedRunLog):
        async def take(self, key: str) -> None:
            await self.pass_the_limit()

        async def events(self, after: int) -> tuple[TaskEvent, ...]:
            await self.pass_the_limit()
            return ()

        async def pass_the_limit(self) -> None:
            run.interrupt(Interrupt.SOFT_LIMIT)
            await asyncio.sleep(0)

    run = Run(Task(agent_name="a", conversation_id="c", attempt=2))
    ctx = make(SlowLog(), ScriptedLLMProvider(), run=run)

    async def agent() -> str:
        await WAITS[work](ctx)
        with pytest.raises(SoftTimeLimitReached):
            await ctx.step("more", nothing)
        return "so far"

    running = asyncio.create_task(agent())
    run.start(running)
    assert await asyncio.wait_for(running, 10) == "so far"


async def test_what_a_tool_asked_in_tasks_of_its_own_ends_with_its_call() -> None:
    class Silent(ScriptedLLMProvider):
        cut_off = 0

        async def complete(self, request: CompletionRequest):
            try:
                await asyncio.Event().wait()
            finally:
                self.cut_off += 1

    llm = Silent()
    call = ToolCall(id="c1", name="ask_aside", arguments={})
    result = await make(KeptLog(), llm).call_tool(
        call, registry=ToolRegistry([ask_aside])
    )
    await asyncio.sleep(0)
    assert (result.error, llm.cut_off) == ("tool_timeout", 1)
