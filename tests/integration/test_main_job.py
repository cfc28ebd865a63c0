"""Submit from Python, run on a real worker against a real socket, read the answer."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator import (
    AsyncOrchestrator,
    EventType,
    RetryPolicy,
    Task,
    TaskFailed,
    TaskStatus,
    WaitTimeout,
)
from orchestrator.errors import AgentNotFound, InvalidInput, PayloadTooLarge
from tests.stand import Stand, wait_until
from workers.llm.double import Double
from workers.llm.double_script import HttpReply, Script

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def running(
    stand: Stand, script: Script | None = None, *arguments: str, workers: int = 1
) -> AsyncIterator[tuple[AsyncOrchestrator, Double]]:
    """An orchestrator, a double, and workers that serve."""
    async with Double(script) as double:
        stand.llm_url = double.url
        for _ in range(workers):
            await asyncio.to_thread(stand.start_worker, *arguments)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            yield celeriac, double
        for worker in stand.workers:
            await asyncio.to_thread(worker.stop)


@pytest.mark.parametrize("pool", [None, "threads", "prefork", "solo"])
async def test_a_submitted_task_is_answered_in_every_pool(
    stand: Stand, pool: str | None
) -> None:
    replies = ["The answer is 42.", "The second answer."]
    chosen = ("--pool", pool) if pool else ()
    async with running(stand, replies, *chosen) as (celeriac, double):
        first = await celeriac.submit("assistant", {"prompt": "What is it?"})
        result = await first.result(timeout=20)
        assert result.content == "The answer is 42."
        assert result.status is TaskStatus.COMPLETED
        assert result.stats.completions == 1
        assert result.stats.usage.total_tokens > 0
        again = await celeriac.submit("assistant", {"prompt": "And again?"})
        assert (await again.result(timeout=20)).content == "The second answer."
        assert double.unused == []


async def test_the_record_goes_from_pending_over_running_to_completed(
    stand: Stand,
) -> None:
    async with running(stand, [HttpReply(text="Done.", delay_seconds=0.5)]) as (
        celeriac,
        _,
    ):
        task_id = await celeriac.execute_async(
            Task(agent_name="assistant", input={"prompt": "Go"})
        )
        types = [event.type async for event in celeriac.events(task_id)]
        assert types[:3] == [
            EventType.TASK_CREATED,
            EventType.TASK_QUEUED,
            EventType.TASK_STARTED,
        ]
        assert types[-1] is EventType.TASK_COMPLETED
        task = await celeriac.get(task_id)
        assert task.status is TaskStatus.COMPLETED
        assert task.created_at <= task.started_at <= task.finished_at
        assert task.running_seconds >= 0.5


async def test_a_failure_is_stored_with_its_code_and_the_endpoints_status(
    stand: Stand,
) -> None:
    async with running(stand, [HttpReply(status=401, text="bad key")]) as (celeriac, _):
        task = await celeriac.submit("assistant", {"prompt": "Hello"})
        with pytest.raises(TaskFailed, match="OPENAI_API_KEY") as caught:
            await task.result(timeout=20)
        failure = caught.value.task.failure
        assert failure is not None
        assert failure.code == "request_rejected"
        assert failure.details["status"] == 401


async def test_a_passing_error_of_the_endpoint_costs_an_attempt_not_the_task(
    stand: Stand,
) -> None:
    replies = [HttpReply(status=503, text="busy"), "Here now."]
    async with running(stand, replies) as (celeriac, _):
        task = await celeriac.submit(
            "assistant",
            {"prompt": "Hello"},
            retry=RetryPolicy(max_attempts=2, backoff_seconds=0.1),
        )
        assert (await task.result(timeout=30)).content == "Here now."
        record = await task.get()
        assert (record.attempt, record.failed_attempts) == (2, 1)


async def test_a_conversation_remembers_its_turns(stand: Stand) -> None:
    async with running(stand, ["Hello Ada.", "You are Ada."]) as (celeriac, double):
        for prompt in ("I am Ada.", "Who am I?"):
            task = await celeriac.submit(
                "assistant", {"prompt": prompt}, conversation_id="talk"
            )
            await task.result(timeout=20)
        said = [
            message["content"]
            for message in double.requests[-1].body["messages"]
            if message["role"] != "system"
        ]
        assert said == ["I am Ada.", "Hello Ada.", "Who am I?"]
        stored = await celeriac.conversations.get_messages("talk")
        assert [entry.message.content for entry in stored] == [
            "I am Ada.",
            "Hello Ada.",
            "Who am I?",
            "You are Ada.",
        ]
        assert [entry.seq for entry in stored] == [1, 2, 3, 4]


async def test_a_running_task_is_cancelled_and_its_request_closed(stand: Stand) -> None:
    async with running(stand, [HttpReply(hang=True)]) as (celeriac, double):
        task = await celeriac.submit("assistant", {"prompt": "Hang"})
        async for event in task.events():
            if event.type is EventType.TASK_STARTED:
                break
        await asyncio.to_thread(wait_until, lambda: bool(double.requests), 10)
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await task.cancel()
        async for event in task.events():
            last = event
        assert last.type is EventType.TASK_CANCELLED
        assert loop.time() - asked < 2.0
        await asyncio.wait_for(double.disconnected.wait(), 2)
        assert await task.status() is TaskStatus.CANCELLED


@pytest.mark.parametrize("pool", [None, "threads", "prefork"])
async def test_the_soft_limit_cancels_the_call_and_asks_once_more(
    stand: Stand, pool: str | None
) -> None:
    replies = [HttpReply(hang=True), "What I have so far."]
    chosen = ("--pool", pool) if pool else ()
    async with running(stand, replies, *chosen) as (celeriac, double):
        task = await celeriac.submit(
            "assistant", {"prompt": "Slow"}, soft_time_limit=0.5, time_limit=20
        )
        result = await task.result(timeout=20)
        assert result.partial
        assert result.stop_reason == "soft_time_limit"
        assert result.content == "What I have so far."
        assert double.disconnected.is_set()


async def test_the_hard_limit_ends_a_run_without_an_answer(stand: Stand) -> None:
    script = [HttpReply(hang=True), HttpReply(hang=True)]
    async with running(stand, script) as (celeriac, _):
        task = await celeriac.submit(
            "assistant", {"prompt": "Slow"}, soft_time_limit=0.3, time_limit=0.6
        )
        async for event in task.events():
            last = event
        assert last.type is EventType.TASK_TIMED_OUT
        record = await task.get()
        assert record.failure is not None
        assert record.failure.code == "time_limit"


@pytest.mark.parametrize("pool", [None, "threads", "prefork"])
async def test_a_workers_own_limits_bound_those_of_its_runs(
    stand: Stand, pool: str | None
) -> None:
    replies = [HttpReply(hang=True), "So far."]
    limits = ("--soft-time-limit", "0.5", "--time-limit", "20")
    chosen = ("--pool", pool) if pool else ()
    async with running(stand, replies, *chosen, *limits) as (celeriac, _):
        task = await celeriac.submit("assistant", {"prompt": "Slow"})
        result = await task.result(timeout=20)
        assert (result.stop_reason, result.content) == ("soft_time_limit", "So far.")
        assert (await task.get()).attempt == 1


async def test_two_hundred_tasks_survive_the_end_of_one_of_two_workers(
    stand: Stand,
) -> None:
    def answer(body: dict[str, object]) -> HttpReply:
        return HttpReply(text="ok", delay_seconds=0.05)

    async with running(stand, answer, workers=2) as (celeriac, double):
        handles = await celeriac.submit_many(
            {"agent": "assistant", "input": {"prompt": f"number {number}"}}
            for number in range(200)
        )
        await asyncio.to_thread(wait_until, lambda: len(double.requests) > 40, 30)
        stand.workers[0].signal(signal.SIGTERM)
        results = await asyncio.gather(
            *(handle.result(timeout=60) for handle in handles)
        )
        assert {result.task_id for result in results} == {h.id for h in handles}
        assert await asyncio.to_thread(stand.workers[0].wait) == 0
        assert len(double.requests) == 200


async def test_a_wait_without_a_worker_says_so(stand: Stand) -> None:
    async with AsyncOrchestrator(stand.settings()) as celeriac:
        task = await celeriac.submit("assistant", {"prompt": "Anyone?"})
        assert task.warning is not None
        assert "no live worker" in task.warning
        with pytest.raises(
            WaitTimeout, match="no live worker serves agent 'assistant'"
        ):
            await task.result(timeout=0.2)
        assert await task.status() is TaskStatus.PENDING


async def test_workers_announce_their_agents_and_withdraw(stand: Stand) -> None:
    async with AsyncOrchestrator(stand.settings()) as celeriac:
        worker = await asyncio.to_thread(stand.start_worker)
        agents = {info.name: info for info in await celeriac.agents()}
        assert agents["researcher"].health.served
        await asyncio.to_thread(worker.stop)
        agents = {info.name: info for info in await celeriac.agents()}
        assert not agents["researcher"].health.served
        with pytest.raises(AgentNotFound, match="researcher"):
            await celeriac.submit("resercher", {"query": "typo"})


async def test_nothing_is_stored_of_a_refused_submit(stand: Stand) -> None:
    async with AsyncOrchestrator(stand.settings()) as celeriac:
        with pytest.raises(PayloadTooLarge):
            await celeriac.submit("assistant", {"prompt": "x" * (2 << 20)})
        for bad in ({"x": float("nan")}, {"x": "\ud800"}, {"x": {1, 2}}, {"x": b""}):
            with pytest.raises(InvalidInput, match=r"input\.x"):
                await celeriac.submit("assistant", bad)
        with pytest.raises(InvalidInput, match="agent"):
            await celeriac.submit("", {})
        with pytest.raises(InvalidInput, match="soft_time_limit"):
            await celeriac.submit("assistant", {}, soft_time_limit=-1)
        assert (await celeriac.list()).tasks == ()


async def test_answers_outlive_every_process(stand: Stand) -> None:
    async with running(stand, ["Kept."]) as (celeriac, _):
        task = await celeriac.submit("assistant", {"prompt": "Remember"})
        await task.result(timeout=20)
    async with AsyncOrchestrator(stand.settings()) as later:
        assert (await later.result(task.id, timeout=5)).content == "Kept."
        page = await later.list()
        assert [record.id for record in page.tasks] == [task.id]
