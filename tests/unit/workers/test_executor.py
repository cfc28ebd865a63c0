"""How every ending of a run is stored, on the in-memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from conversations.conversation import ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from conversations.message import Message
from conversations.stored_service import StoredConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import QueueUnavailable, StoreFull
from orchestrator.journal import StepKind, StepStart
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Claim, Creation, Doorbell
from orchestrator.task import RetryPolicy, Task, TaskStatus
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.errors import (
    AgentFailed,
    EmptyCompletion,
    GateClosed,
    LLMUnavailable,
    SoftTimeLimitReached,
)
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.provider import CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Interrupt
from workers.tools.registry import ToolRegistry

DEADLINE_SECONDS = 0.5
"""Longer than a busy machine takes from a submit to its claim."""
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


@pytest.fixture
def bench() -> Bench:
    conversations = InMemoryConversationStore()
    store = InMemoryTaskStore(conversations=conversations)
    queue = RecordingQueue()
    llm = ScriptedLLMProvider()
    manager = LocalAgentManager(llm, ToolRegistry())
    parts = ExecutorParts(
        store=store,
        queue=queue,
        manager=manager,
        conversations=StoredConversationService(conversations),
        conversation_config=ConversationConfig(),
    )
    limits = ExecutorLimits(max_result_bytes=10_000, store_patience_seconds=2.0)
    executor = Executor(parts, worker="w", limits=limits)
    return Bench(store, queue, conversations, llm, manager, executor)


async def until_running(bench: Bench, task: Task) -> asyncio.Task[tuple[str, Task]]:
    running = asyncio.create_task(bench.run(task))
    while (task.tenant, task.id) not in bench.executor.runs:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    return running


async def test_an_answer_completes_the_task(bench: Bench) -> None:
    async def answer(ctx: RunContext, given: AgentInput) -> str:
        return f"you said {given.prompt()}"

    bench.agent(answer)
    word, task = await bench.run(await bench.submit(input={"prompt": "hi"}))
    assert (word, task.status) == ("completed", TaskStatus.COMPLETED)
    assert task.result is not None
    assert task.result.content == "you said hi"
    assert bench.executor.runs == {}


async def test_a_second_delivery_of_the_message_does_nothing(bench: Bench) -> None:
    runs = 0

    async def answer(ctx: RunContext, given: AgentInput) -> str:
        nonlocal runs
        runs += 1
        return "once"

    bench.agent(answer)
    task = await bench.submit()
    words = await asyncio.gather(bench.run(task), bench.run(task))
    assert sorted(word for word, _ in words) == ["completed", "leased"]
    assert (await bench.run(task))[0] == "ended"
    assert runs == 1


async def test_an_error_that_cannot_pass_fails_the_task(bench: Bench) -> None:
    async def fail(ctx: RunContext, given: AgentInput) -> str:
        raise AgentFailed("no such document", code="invalid_input")

    bench.agent(fail)
    _, task = await bench.run(await bench.submit())
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert (task.failure.code, task.failure.message) == (
        "invalid_input",
        "no such document",
    )


async def test_a_passing_error_releases_the_task_for_a_later_attempt(
    bench: Bench,
) -> None:
    async def fail(ctx: RunContext, given: AgentInput) -> str:
        raise LLMUnavailable("down")

    bench.agent(fail, retry=RetryPolicy(max_attempts=2, backoff_seconds=60))
    word, task = await bench.run(await bench.submit())
    assert (word, task.status) == ("released", TaskStatus.PENDING)
    assert task.failed_attempts == 1
    assert task.failure is not None
    assert task.due_at is not None
    assert task.created_at is not None
    assert (task.due_at - task.created_at).total_seconds() > 20
    assert (await bench.run(task))[0] == "not_due"


async def test_finished_steps_are_not_done_again_by_the_next_attempt(
    bench: Bench,
) -> None:
    effects: list[str] = []

    async def work(ctx: RunContext, given: AgentInput) -> str:
        first = await ctx.complete(CompletionRequest(messages=()))

        async def effect() -> str:
            effects.append("sent")
            return "receipt"

        receipt = await ctx.step("send", effect)
        if ctx.task.attempt == 1:
            raise LLMUnavailable("down")
        return f"{first.message.content} {receipt}"

    bench.llm._answer = lambda _: "paid once"
    bench.agent(work, retry=RetryPolicy(max_attempts=2, backoff_seconds=0))
    task = await bench.submit()
    assert (await bench.run(task))[0] == "released"
    word, task = await bench.run(task)
    assert word == "completed"
    assert task.result is not None
    assert task.result.content == "paid once receipt"
    assert task.result.stats.completions == 1
    assert effects == ["sent"]
    assert len(bench.llm.requests) == 1


async def test_a_completion_that_a_crash_hid_is_asked_again_and_counted(
    bench: Bench,
) -> None:
    async def ask(ctx: RunContext, given: AgentInput) -> str:
        return (await ctx.complete(CompletionRequest(messages=()))).message.content

    bench.llm._answer = lambda _: "an answer"
    bench.agent(ask)
    task = await bench.submit()
    claimed = await bench.store.claim(
        "default", task.id, worker="gone", serves=["agent"], lease_seconds=0.001
    )
    assert isinstance(claimed, Claim)
    start = StepStart(key="completion:1", kind=StepKind.COMPLETION)
    await bench.store.start_step(claimed.lease, start)
    await asyncio.sleep(0.005)
    await bench.store.sweep()
    word, task = await bench.run(task)
    assert (word, task.maybe_paid) == ("completed", 1)
    assert task.result is not None
    assert task.result.stats.maybe_paid == 1


@pytest.mark.parametrize(("status", "maybe_paid"), [(503, 0), (None, 1)])
async def test_a_completion_that_the_endpoint_refused_is_not_maybe_paid(
    bench: Bench, status: int | None, maybe_paid: int
) -> None:
    async def ask(ctx: RunContext, given: AgentInput) -> str:
        return (await ctx.complete(CompletionRequest(messages=()))).message.content

    def refuse_once(_: CompletionRequest) -> str:
        if len(bench.llm.requests) == 1:
            raise LLMUnavailable("down", status=status)
        return "an answer"

    bench.llm._answer = refuse_once
    bench.agent(ask, retry=RetryPolicy(max_attempts=2, backoff_seconds=0))
    task = await bench.submit()
    assert (await bench.run(task))[0] == "released"
    word, task = await bench.run(task)
    assert (word, task.maybe_paid) == ("completed", maybe_paid)


async def test_a_cancel_stops_the_run_and_is_stored(bench: Bench) -> None:
    async def hang(ctx: RunContext, given: AgentInput) -> str:
        await asyncio.Event().wait()
        return "never"

    bench.agent(hang)
    task = await bench.submit()
    running = await until_running(bench, task)
    await bench.store.cancel(task.tenant, task.id)
    bench.executor.runs[task.tenant, task.id].interrupt(Interrupt.CANCEL)
    word, ended = await asyncio.wait_for(running, 5)
    assert (word, ended.status) == ("cancelled", TaskStatus.CANCELLED)


async def test_the_deadline_ends_a_run_that_is_under_way(bench: Bench) -> None:
    async def hang(ctx: RunContext, given: AgentInput) -> str:
        assert ctx.remaining_seconds() <= DEADLINE_SECONDS
        await asyncio.Event().wait()
        return "never"

    bench.agent(hang)
    task = await bench.submit(deadline_seconds=DEADLINE_SECONDS)
    word, ended = await asyncio.wait_for(bench.run(task), 10)
    assert (word, ended.status) == ("timed_out", TaskStatus.TIMED_OUT)
    assert ended.failure is not None
    assert ended.failure.code == "deadline"
    assert "raise deadline" in ended.failure.message


async def test_a_lost_lease_stops_the_run_without_a_word_in_the_record(
    bench: Bench,
) -> None:
    async def hang(ctx: RunContext, given: AgentInput) -> str:
        await asyncio.Event().wait()
        return "never"

    bench.agent(hang)
    task = await bench.submit()
    running = await until_running(bench, task)
    bench.executor.runs[task.tenant, task.id].interrupt(Interrupt.LEASE_LOST)
    word, record = await asyncio.wait_for(running, 5)
    assert word == "lease_lost"
    assert record.status is TaskStatus.RUNNING


async def test_a_run_that_comes_back_to_its_process_replaces_its_stale_self(
    bench: Bench,
) -> None:
    freed = asyncio.Event()

    async def wait(ctx: RunContext, given: AgentInput) -> str:
        await freed.wait()
        return "answered"

    bench.agent(wait)
    task = await bench.submit()
    stale = await until_running(bench, task)
    lease = bench.executor.runs[task.tenant, task.id].lease
    assert lease is not None
    await bench.store.surrender([lease], blamed=None)
    await bench.store.sweep()
    again = asyncio.create_task(bench.run(task))
    word, _ = await asyncio.wait_for(stale, 5)
    assert word == "lease_lost"
    held = bench.executor.runs[task.tenant, task.id].lease
    assert held is not None
    assert held.fence == 2
    freed.set()
    word, ended = await again
    assert (word, ended.status) == ("completed", TaskStatus.COMPLETED)
    assert not bench.executor.runs


async def test_a_soft_limit_that_the_agent_answers_gives_a_partial_result(
    bench: Bench,
) -> None:
    async def work(ctx: RunContext, given: AgentInput) -> AgentResult:
        async def hang() -> None:
            await asyncio.Event().wait()

        try:
            await ctx.step("long", hang)
        except SoftTimeLimitReached:
            assert ctx.wrapping_up
            return AgentResult(
                content="so far", partial=True, stop_reason="soft_time_limit"
            )
        return AgentResult(content="never")

    bench.agent(work)
    task = await bench.submit(soft_time_limit_seconds=0.05, time_limit_seconds=10)
    _, task = await bench.run(task)
    assert task.status is TaskStatus.COMPLETED
    assert task.result is not None
    assert task.result.partial


async def test_a_soft_limit_without_an_answer_fails_the_task(bench: Bench) -> None:
    async def hang(ctx: RunContext, given: AgentInput) -> str:
        await asyncio.Event().wait()
        return "never"

    bench.agent(hang)
    task = await bench.submit(soft_time_limit_seconds=0.05, time_limit_seconds=10)
    _, task = await bench.run(task)
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert task.failure.code == "soft_time_limit"


async def test_the_hard_limit_times_the_task_out(bench: Bench) -> None:
    async def stubborn(ctx: RunContext, given: AgentInput) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()
        return "never"

    bench.agent(stubborn)
    task = await bench.submit(soft_time_limit_seconds=0.05, time_limit_seconds=0.1)
    _, task = await bench.run(task)
    assert task.status is TaskStatus.TIMED_OUT
    assert task.failure is not None
    assert task.failure.code == "time_limit"


async def test_a_drain_releases_at_the_next_step_and_counts_no_attempt(
    bench: Bench,
) -> None:
    go_on = asyncio.Event()

    async def work(ctx: RunContext, given: AgentInput) -> str:
        async def first() -> str:
            await go_on.wait()
            return "done"

        async def second() -> str:
            return "done"

        await ctx.step("first", first)
        await ctx.step("second", second)
        return "answer"

    bench.agent(work)
    task = await bench.submit()
    running = await until_running(bench, task)
    bench.executor.drain()
    go_on.set()
    word, task = await asyncio.wait_for(running, 5)
    assert (word, task.status) == ("released", TaskStatus.PENDING)
    assert (task.failed_attempts, task.crashes) == (0, 0)
    assert [bell.task_id for bell in bench.queue.rung] == [task.id]
    keys = [step.key for step in await bench.store.steps(task.tenant, task.id)]
    assert keys == ["step:first:1"]
    assert (await bench.run(task))[0] == "unserved"


async def test_a_result_beyond_its_limit_fails_and_names_both_sizes(
    bench: Bench,
) -> None:
    async def flood(ctx: RunContext, given: AgentInput) -> str:
        return "x" * 20_000

    bench.agent(flood)
    _, task = await bench.run(await bench.submit())
    assert task.failure is not None
    assert task.failure.code == "result_too_large"
    assert "10000" in task.failure.message


async def test_the_turn_enters_the_conversation_with_the_answer(bench: Bench) -> None:
    seen: list[int] = []

    async def work(ctx: RunContext, given: AgentInput) -> str:
        seen.append(len(given.messages))
        return "an answer"

    bench.agent(work)
    for _ in range(2):
        await bench.run(
            await bench.submit(input={"prompt": "hi"}, conversation_id="talk")
        )
    assert seen == [0, 2]
    stored = await bench.conversations.read("default", "talk")
    assert [entry.message.role for entry in stored] == [
        "user",
        "assistant",
        "user",
        "assistant",
    ]


async def test_an_ending_waits_for_a_store_that_is_full(bench: Bench) -> None:
    class FullForAWhile(InMemoryTaskStore):
        refusals = 2

        async def finish(self, *arguments, **options):
            if self.refusals:
                self.refusals -= 1
                raise StoreFull("Redis is out of memory; free some")
            return await super().finish(*arguments, **options)

    async def answer(ctx: RunContext, given: AgentInput) -> str:
        return "kept in memory meanwhile"

    bench.agent(answer)
    store = FullForAWhile()
    parts = ExecutorParts(
        store=store,
        queue=bench.queue,
        manager=bench.manager,
        conversations=None,
        conversation_config=ConversationConfig(),
    )
    executor = Executor(parts, worker="w", limits=ExecutorLimits())
    task = Task(agent_name="agent")
    await store.create([task])
    assert (await executor.run("default", task.id)).word == "completed"


async def test_a_broker_that_is_away_does_not_fail_a_run(bench: Bench) -> None:
    async def fail(ctx: RunContext, given: AgentInput) -> str:
        raise LLMUnavailable("down")

    bench.queue.away = True
    bench.agent(fail, retry=RetryPolicy(max_attempts=2, backoff_seconds=0))
    word, task = await bench.run(await bench.submit())
    assert (word, task.status) == ("released", TaskStatus.PENDING)


async def test_a_cancel_that_nobody_asked_for_fails_the_task(bench: Bench) -> None:
    async def work(ctx: RunContext, given: AgentInput) -> str:
        raise asyncio.CancelledError

    bench.agent(work)
    _, task = await bench.run(await bench.submit())
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert task.failure.code == "agent_cancelled_itself"


async def test_a_failed_completion_leaves_its_place_to_the_next(bench: Bench) -> None:
    async def work(ctx: RunContext, given: AgentInput) -> str:
        try:
            completion = await ctx.complete(CompletionRequest(messages=()))
        except EmptyCompletion:
            completion = await ctx.complete(CompletionRequest(messages=()))
        if ctx.task.attempt == 1:
            raise LLMUnavailable("down")
        return completion.message.content

    replies = iter([EmptyCompletion("nothing"), "paid once"])
    bench.llm._answer = lambda _: next(replies)
    bench.agent(work, retry=RetryPolicy(max_attempts=2, backoff_seconds=0))
    task = await bench.submit()
    assert (await bench.run(task))[0] == "released"
    word, task = await bench.run(task)
    assert word == "completed"
    keys = [step.key for step in await bench.store.steps(task.tenant, task.id)]
    assert keys == ["completion:1"]


async def test_a_soft_limit_while_an_event_is_written_still_gives_an_answer(
    bench: Bench,
) -> None:
    class SlowEvents(InMemoryTaskStore):
        async def append_events(self, *arguments, **options):
            await asyncio.sleep(0.3)
            await super().append_events(*arguments, **options)

    async def nothing() -> None: ...

    async def work(ctx: RunContext, given: AgentInput) -> str:
        try:
            await ctx.progress("on my way")
            await ctx.step("more", nothing)
        except SoftTimeLimitReached:
            return "so far"
        return "never"

    bench.agent(work)
    executor, store = other_store(bench, SlowEvents())
    task = Task(agent_name="agent", soft_time_limit_seconds=0.1, time_limit_seconds=9)
    await store.create([task])
    assert (await executor.run("default", task.id)).word == "completed"


async def test_a_message_beyond_its_limit_is_shortened_in_the_history(
    bench: Bench,
) -> None:
    async def flood(ctx: RunContext, given: AgentInput) -> AgentResult:
        message = Message(role="assistant", content="x" * 300_000)
        return AgentResult(content="short", messages=(message,))

    bench.agent(flood)
    task = await bench.submit(conversation_id="talk", input={"prompt": "hi"})
    _, task = await bench.run(task)
    assert task.result is not None
    (stored,) = await bench.conversations.read("default", "talk")
    assert len(stored.message.content) <= 256 * 1024
    assert stored.message.content.endswith("characters left out of the history]")


async def test_an_agent_that_returns_something_else_is_told_what_to_return(
    bench: Bench,
) -> None:
    class Wrong:
        async def run(self, ctx: RunContext, agent_input: AgentInput) -> str:
            return "text"

    bench.manager.register_agent(AgentConfig(name="agent"), Wrong())
    _, task = await bench.run(await bench.submit())
    assert task.failure is not None
    assert task.failure.code == "invalid_result"
    assert "AgentResult" in task.failure.message
    assert bench.manager.list_agents()[0].health.failures == 1


def other_store(
    bench: Bench, store: InMemoryTaskStore
) -> tuple[Executor, InMemoryTaskStore]:
    parts = ExecutorParts(
        store=store,
        queue=bench.queue,
        manager=bench.manager,
        conversations=None,
        conversation_config=ConversationConfig(),
    )
    return Executor(parts, worker="w", limits=ExecutorLimits()), store


async def test_a_closed_gate_gives_the_task_back_and_counts_no_attempt(bench: Bench):
    async def waits(*_: object) -> AgentResult:
        raise GateClosed("waits for endpoint default (requests)", seconds=7.0)

    bench.agent(waits)
    word, task = await bench.run(await bench.submit())
    assert (word, task.status) == ("released", TaskStatus.PENDING)
    assert (task.failed_attempts, task.failure) == (0, None)
    assert task.pending_reason == "waits for endpoint default (requests)"
    assert task.due_at is not None
    assert task.created_at is not None
    assert 6 < (task.due_at - task.created_at).total_seconds() < 12
