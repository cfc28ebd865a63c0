"""How every ending of a run is stored, on the in-memory store."""

from __future__ import annotations

import asyncio
import json
import logging
import re

import pytest

from conversations.conversation import ConversationConfig
from conversations.message import Message
from orchestrator.agent_config import AgentConfig
from orchestrator.errors import StoreFull
from orchestrator.journal import StepKind, StepStart
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Claim
from orchestrator.task import RetryPolicy, Task, TaskStatus
from tests.unit.workers.executor_bench import (
    Bench,
)
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.errors import (
    AgentFailed,
    EmptyCompletion,
    LLMUnavailable,
)
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.provider import CompletionRequest


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


async def test_an_error_that_nobody_foresaw_is_logged_with_its_place(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(ctx: RunContext, agent_input: AgentInput) -> str:
        return str(json.loads(agent_input.data["text"]))

    bench.agent(broken)
    with caplog.at_level(logging.WARNING):
        _, failed = await bench.run(await bench.submit(input={"text": "{"}))

    (line,) = (r for r in caplog.records if r.getMessage() == "attempt failed")
    assert failed.failure is not None
    assert failed.failure.code == vars(line)["code"] == "agent_error"
    place = rf"{re.escape(__file__)}:\d+ in broken"
    assert re.fullmatch(place, vars(line)["at"])


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


@pytest.mark.parametrize(
    ("status", "was_sent", "maybe_paid"),
    [(503, True, 0), (None, True, 1), (None, False, 0)],
)
async def test_a_completion_that_the_endpoint_refused_is_not_maybe_paid(
    bench: Bench, status: int | None, was_sent: bool, maybe_paid: int
) -> None:
    async def ask(ctx: RunContext, given: AgentInput) -> str:
        return (await ctx.complete(CompletionRequest(messages=()))).message.content

    def refuse_once(_: CompletionRequest) -> str:
        if len(bench.llm.requests) == 1:
            error = LLMUnavailable("down", status=status)
            error.was_sent = was_sent
            raise error
        return "an answer"

    bench.llm._answer = refuse_once
    bench.agent(ask, retry=RetryPolicy(max_attempts=2, backoff_seconds=0))
    task = await bench.submit()
    assert (await bench.run(task))[0] == "released"
    word, task = await bench.run(task)
    assert (word, task.maybe_paid) == ("completed", maybe_paid)


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


async def test_an_agent_whose_run_is_a_plain_function_is_told_to_write_async(
    bench: Bench,
) -> None:
    class Plain:
        def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
            return AgentResult(content="at once")

    bench.manager.register_agent(AgentConfig(name="agent"), Plain())  # type: ignore[arg-type]
    _, task = await bench.run(await bench.submit())
    assert task.failure is not None
    assert task.failure.code == "invalid_result"
    assert "gave AgentResult at once; write it as `async def" in task.failure.message
