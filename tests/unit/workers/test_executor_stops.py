"""How a run is stopped: cancel, limits, drain, a lost lease, a closed gate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn

import pytest

from conversations.json_value import MAX_DEPTH, copied, dumps
from orchestrator.errors import StoreUnavailable
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Creation
from orchestrator.task import Task, TaskStatus
from tests.unit.workers.executor_bench import (
    Bench,
    other_store,
    until_running,
)
from workers import run_log
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.errors import (
    AgentFailed,
    GateClosed,
    LLMUnavailable,
    SoftTimeLimitReached,
)
from workers.executor import Executor
from workers.run import AGENT_STOP_SECONDS, Interrupt, Run

DEADLINE_SECONDS = 0.5
"""Longer than a busy machine takes from a submit to its claim."""


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
    task = await bench.submit(soft_time_limit_seconds=0.05, time_limit_seconds=1)
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


async def test_an_agent_that_fails_while_its_worker_leaves_has_failed(
    bench: Bench,
) -> None:
    async def fail(ctx: RunContext, given: AgentInput) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise AgentFailed("it was in the midst of it") from None
        return "never"

    bench.agent(fail)
    running = await until_running(bench, await bench.submit())
    bench.executor.abandon()
    word, task = await asyncio.wait_for(running, 5)
    assert (word, task.status) == ("failed", TaskStatus.FAILED)


async def test_a_run_given_up_before_its_celery_task_is_ended_is_released(
    bench: Bench,
) -> None:
    """As a cold shutdown does: it is no crash, of which a few in a row fail a task."""

    async def work(ctx: RunContext, given: AgentInput) -> str:
        await asyncio.Event().wait()
        return "never"

    bench.agent(work)
    task = await bench.submit()
    running = await until_running(bench, task)
    bench.executor.abandon()
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    record = await bench.store.get("default", task.id)
    assert (record.status, record.failed_attempts) == (TaskStatus.PENDING, 0)
    assert record.pending_reason == "worker shutting down"


class SlowEnds(InMemoryTaskStore):
    """Stores how an attempt ended when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def release(self, *args: Any, **options: Any) -> Any:
        await self._wait()
        return await super().release(*args, **options)

    async def finish(self, *args: Any, **options: Any) -> Any:
        await self._wait()
        return await super().finish(*args, **options)

    async def _wait(self) -> None:
        self.asked.set()
        await self.may_answer.wait()


async def ended_cold(executor: Executor, store: SlowEnds, task: Task) -> Task:
    """Return the record of a run whose end was being stored at a cold shutdown.

    That gives all runs up at once, and ends their Celery tasks one by one.
    """
    (creation,) = await store.create([task])
    assert isinstance(creation, Creation)
    running = asyncio.create_task(executor.run("default", task.id))
    await asyncio.wait_for(store.asked.wait(), 5)
    executor.abandon()
    running.cancel()
    await asyncio.sleep(0)
    store.may_answer.set()
    await asyncio.wait({running}, timeout=5)
    return await store.get("default", task.id)


@pytest.mark.parametrize("is_warm", [False, True])
async def test_a_release_under_way_outlives_the_end_of_its_celery_task(
    bench: Bench, is_warm: bool
) -> None:
    executor, store = other_store(bench, SlowEnds())

    async def work(ctx: RunContext, given: AgentInput) -> str:
        (executor.drain if is_warm else executor.abandon)()
        await ctx.step("next", asyncio.Event().wait)
        return "never"

    bench.agent(work)
    record = await ended_cold(executor, store, Task(agent_name="agent"))
    assert record.status is TaskStatus.PENDING


@pytest.mark.parametrize("status", [TaskStatus.CANCELLED, TaskStatus.TIMED_OUT])
async def test_an_end_that_is_being_stored_outlives_the_end_of_its_celery_task(
    bench: Bench, status: TaskStatus
) -> None:
    executor, store = other_store(bench, SlowEnds())

    async def work(ctx: RunContext, given: AgentInput) -> str:
        if status is TaskStatus.CANCELLED:
            await store.cancel("default", ctx.task.id)
            executor.cancel("default", ctx.task.id)
        await asyncio.Event().wait()
        return "never"

    bench.agent(work)
    limit = 0.05 if status is TaskStatus.TIMED_OUT else None
    task = Task(agent_name="agent", time_limit_seconds=limit)
    record = await ended_cold(executor, store, task)
    assert record.status is status


async def test_each_of_many_that_are_given_up_does_not_stop_them_all_again(
    bench: Bench,
) -> None:
    """Celery ends each of its requests, and each gives up what runs here."""

    class Looked(dict[tuple[str, str], Run]):
        looks = 0

        def values(self) -> Any:
            self.looks += 1
            return super().values()

    runs = bench.executor.runs = Looked()
    for _ in range(100):
        bench.executor.abandon()
    assert runs.looks == 1


async def test_a_run_claimed_as_its_worker_gives_up_is_released(bench: Bench) -> None:
    class Late(InMemoryTaskStore):
        async def claim(self, *arguments, **options):
            claim = await super().claim(*arguments, **options)
            executor.abandon()
            return claim

    executor, store = other_store(bench, Late())

    async def work(ctx: RunContext, given: AgentInput) -> str:
        await asyncio.Event().wait()
        return "never"

    bench.agent(work)
    (creation,) = await store.create([Task(agent_name="agent")])
    assert isinstance(creation, Creation)
    async with asyncio.timeout(3):
        outcome = await executor.run("default", creation.task.id)
    assert outcome.word == "released"


async def test_a_cancel_that_nobody_asked_for_fails_the_task(bench: Bench) -> None:
    async def work(ctx: RunContext, given: AgentInput) -> str:
        raise asyncio.CancelledError

    bench.agent(work)
    _, task = await bench.run(await bench.submit())
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert task.failure.code == "agent_cancelled_itself"


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
    result = (await store.get("default", task.id)).result
    assert result is not None
    assert result.content == "so far"


async def test_a_soft_limit_while_a_run_reads_what_it_follows_gives_an_answer(
    bench: Bench,
) -> None:
    class SlowEnds(InMemoryTaskStore):
        async def ends(self, tenant, task_ids):
            (run,) = executor.runs.values()
            while run.interrupt_reason is None:
                await asyncio.sleep(0.01)
            return await super().ends(tenant, task_ids)

    async def nothing() -> None: ...

    async def work(ctx: RunContext, given: AgentInput) -> str:
        with pytest.raises(SoftTimeLimitReached):
            await ctx.step("more", nothing)
        return "so far"

    bench.agent(work)
    executor, store = other_store(bench, SlowEnds())
    task = Task(
        agent_name="agent",
        after=("task-unknown",),
        after_failure="run",
        soft_time_limit_seconds=0.05,
        time_limit_seconds=9,
    )
    await store.create([task])
    assert (await executor.run("default", task.id)).word == "completed"


async def test_a_closed_gate_gives_the_task_back_and_counts_no_attempt(bench: Bench):
    async def waits(*_: object) -> AgentResult:
        raise GateClosed("waits for endpoint default (requests)", seconds=7.0)

    bench.agent(waits)
    given = await bench.submit()
    outcome = await bench.executor.run("default", given.id)
    # As Flower shows it: not a worker that is shutting down.
    assert outcome == ("released", "gate_closed")
    task = await bench.store.get("default", given.id)
    assert task.status is TaskStatus.PENDING
    assert (task.failed_attempts, task.failure) == (0, None)
    assert task.pending_reason == "waits for endpoint default (requests)"
    assert task.due_at is not None
    assert task.created_at is not None
    assert 6 < (task.due_at - task.created_at).total_seconds() < 12
    assert bench.manager.list_agents()[0].health.failures == 0


async def test_the_hard_limit_ends_steps_that_the_agent_waits_for_in_other_tasks(
    bench: Bench,
) -> None:
    """`asyncio.wait` passes no cancel on to what it waits for."""
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("step")

    async def answer_all(ctx: RunContext, given: AgentInput) -> str:
        try:
            step = asyncio.create_task(ctx.step("hang", hang))
            await asyncio.wait({step})
        finally:
            ended.append("agent")
        return "never"

    bench.agent(answer_all)
    _, task = await bench.run(await bench.submit(time_limit_seconds=0.05))
    assert task.status is TaskStatus.TIMED_OUT
    assert sorted(ended) == ["agent", "step"]


async def gathering(step: Coroutine[object, object, object]) -> None:
    await asyncio.gather(step)


async def waiting(step: Coroutine[object, object, object]) -> None:
    await asyncio.wait({asyncio.create_task(step)})


async def grouping(step: Coroutine[object, object, object]) -> None:
    """Nested groups pass a cancel on in the next turn of the loop each."""

    async def branch() -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(step)

    async with asyncio.TaskGroup() as outer:
        outer.create_task(branch())


@pytest.mark.parametrize("beside", [gathering, waiting, grouping])
async def test_a_cancel_interrupts_no_step_that_is_ending(
    bench: Bench, beside: Callable[[Coroutine[object, object, object]], Awaitable[None]]
) -> None:
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    async def work(ctx: RunContext, given: AgentInput) -> str:
        await beside(ctx.step("hang", hang))
        return "never"

    bench.agent(work)
    _, task = await bench.run(await bench.submit(time_limit_seconds=0.05))
    assert task.status is TaskStatus.TIMED_OUT
    await asyncio.wait_for(ended.wait(), 1)


async def test_an_agent_that_waits_for_its_steps_to_end_is_not_left_behind(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    async def orderly(ctx: RunContext, given: AgentInput) -> str:
        steps = {asyncio.create_task(ctx.step("hang", hang))}
        try:
            await asyncio.wait(steps)
        finally:
            await asyncio.wait(steps)
        return "never"

    bench.agent(orderly)
    running = bench.run(await bench.submit(time_limit_seconds=0.05))
    _, task = await asyncio.wait_for(running, AGENT_STOP_SECONDS)
    assert task.status is TaskStatus.TIMED_OUT
    assert "left behind" not in caplog.text


async def test_what_an_agent_left_under_way_ends_with_its_run(bench: Bench) -> None:
    ended = asyncio.Event()
    left: list[asyncio.Task[object]] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def forgetful(ctx: RunContext, given: AgentInput) -> str:
        left.append(asyncio.create_task(ctx.step("hang", hang)))
        await asyncio.sleep(0)
        return "answered"

    bench.agent(forgetful)
    _, task = await bench.run(await bench.submit())
    assert task.status is TaskStatus.COMPLETED
    await asyncio.wait_for(ended.wait(), 1)


@pytest.mark.parametrize("reason", [Interrupt.HARD_LIMIT, Interrupt.CANCEL])
async def test_a_run_that_must_stop_begins_no_further_step(
    bench: Bench, reason: Interrupt
) -> None:
    begun: list[str] = []

    async def hang() -> None:
        begun.append("step")
        await asyncio.Event().wait()

    async def deaf(ctx: RunContext, given: AgentInput) -> str:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await ctx.step("hang", hang)
        return await ctx.step("hang", hang)

    bench.agent(deaf)
    task = await bench.submit()
    running = await until_running(bench, task)
    if reason is Interrupt.CANCEL:
        await bench.store.cancel(task.tenant, task.id)
    bench.executor.runs[task.tenant, task.id].interrupt(reason)
    await asyncio.wait_for(running, 5)
    assert begun == ["step"]


async def test_a_step_in_a_task_that_has_outlived_a_cancel_ends_with_its_run(
    bench: Bench,
) -> None:
    """As `asyncio.wait_for` leaves one whose coroutine tidies up after its timeout."""
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def work(ctx: RunContext, given: AgentInput) -> str:
        async def tidy_up() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await ctx.step("hang", hang)

        tidying = asyncio.create_task(tidy_up())
        await asyncio.sleep(0)
        tidying.cancel()
        await asyncio.wait({tidying})
        return "never"

    bench.agent(work)
    _, task = await bench.run(await bench.submit(time_limit_seconds=0.05))
    assert task.status is TaskStatus.TIMED_OUT
    await asyncio.wait_for(ended.wait(), 1)


async def test_an_end_that_a_store_which_is_away_does_not_take_is_told_in_a_line(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(InMemoryTaskStore):
        async def release(self, *_: object, **__: object) -> NoReturn:
            raise StoreUnavailable("Redis cannot be reached")

    executor, store = other_store(bench, Away())

    async def work(ctx: RunContext, given: AgentInput) -> str:
        executor.abandon()
        await asyncio.Event().wait()
        return "never"

    bench.agent(work)
    (creation,) = await store.create([Task(agent_name="agent")])
    assert isinstance(creation, Creation)
    outcome = await executor.run("default", creation.task.id)
    assert outcome.word == "store_unavailable"
    (told,) = [each for each in caplog.records if "not stored" in each.message]
    assert told.error == "Redis cannot be reached"
    assert told.exc_info is None


async def begun_again_without_parent(bench: Bench) -> tuple[str, Task]:
    """Let a task begin, be put off, and go on when what it came after is deleted."""
    first = await bench.submit()
    await bench.run(first)
    child = await bench.submit(after=(first.id,))
    assert (await bench.run(child))[0] == "released"
    await bench.store.delete("default", first.id)
    return await bench.run(child)


async def test_a_run_that_goes_on_has_the_answers_that_it_began_with(
    bench: Bench,
) -> None:
    given_results: list[object] = []

    async def work(ctx: RunContext, given: AgentInput) -> str:
        results = given.data.get("results")
        given_results.append(copied(results))
        if len(given_results) == 2:
            results[0].clear()  # what it changes is its own
            raise LLMUnavailable("away for a moment")
        return "answer"

    bench.agent(work, retry={"backoff_seconds": 0})
    word, ended = await begun_again_without_parent(bench)
    assert (word, ended.failure) == ("completed", None)
    assert given_results[1] == given_results[2]
    assert given_results[1]


async def test_an_answer_as_deep_as_a_value_may_be_is_given_and_kept(
    bench: Bench,
) -> None:
    deep: list[object] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    given_outputs: list[object] = []

    async def work(ctx: RunContext, given: AgentInput) -> AgentResult:
        if "results" not in given.data:
            return AgentResult(content="", output=deep)
        given_outputs.append(given.data["results"][0]["output"])
        if len(given_outputs) == 1:
            raise LLMUnavailable("away for a moment")
        return AgentResult(content="answer")

    bench.agent(work, retry={"backoff_seconds": 0})
    word, ended = await begun_again_without_parent(bench)
    assert (word, ended.failure) == ("completed", None)
    assert given_outputs == [deep, deep]


@pytest.mark.parametrize(("spare", "told"), [(0, "completed"), (-1, "failed")])
async def test_answers_beyond_what_is_kept_are_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spare: int, told: str
) -> None:
    sizes: list[int] = []

    async def work(ctx: RunContext, given: AgentInput) -> str:
        results = given.data.get("results")
        if results is None:
            return "é" * 1000
        if not sizes:
            sizes.append(len(dumps(results).encode()))
            monkeypatch.setattr(run_log, "MOST_KEPT_BYTES", sizes[0] + spare)
            raise LLMUnavailable("away for a moment")
        return "answer"

    bench.agent(work, retry={"backoff_seconds": 0})
    word, ended = await begun_again_without_parent(bench)
    assert word == told
    if told == "failed":
        assert ended.failure.code == "dependency_failed"
