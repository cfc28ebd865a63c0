"""A loop that stands still: whose callback blocks it is found and told the store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conversations.conversation import ConversationConfig
from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.loop_thread import LoopThread
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Claim, Creation, Doorbell, LeaseState, RefusalReason
from orchestrator.sweeper import Sweeper
from orchestrator.task import Task, TaskStatus
from tests.unit.workers.agents.silent_queue import SilentQueue
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.executor import Executor, ExecutorLimits, ExecutorParts, Outcome
from workers.heartbeat import Heartbeat, HeartbeatParts, HeartbeatTimes
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry

BLOCKED_SECONDS = 1.5
STALL_LIMIT_SECONDS = 0.3
RENEW_SECONDS = 0.05
DEADLINE_SECONDS = 10.0
UNBOUND = ExecutorLimits()


class Patient:
    """Waits as long as it takes."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        await asyncio.Event().wait()
        return AgentResult()


class Blocker:
    """Blocks the loop in a step."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        async def block() -> None:
            time.sleep(BLOCKED_SECONDS)  # noqa: TID251 - the fault under test

        await ctx.step("block", block)
        return AgentResult()


class Answerer:
    """Answers at once."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        return AgentResult(content="answered")


class SlowToEndStore(InMemoryTaskStore):
    """Stores ends, but not soon."""

    def __init__(self) -> None:
        super().__init__()
        self.is_ending = threading.Event()

    async def finish(self, *args: Any, **kwargs: Any) -> tuple[Doorbell, ...]:
        self.is_ending.set()
        await asyncio.sleep(0.5)
        return await super().finish(*args, **kwargs)


class SlowToTellStore(InMemoryTaskStore):
    """Gives claims out, and tells of them later."""

    def __init__(self) -> None:
        super().__init__()
        self.has_claimed = threading.Event()

    async def claim(self, *args: Any, **kwargs: Any) -> Claim | RefusalReason:
        claim = await super().claim(*args, **kwargs)
        if isinstance(claim, Claim):
            self.has_claimed.set()
            await asyncio.sleep(0.2)
        return claim


class SlowStore(InMemoryTaskStore):
    """Renews leases, but not soon."""

    renewals = surrendered = 0

    async def renew(self, *args: Any, **kwargs: Any) -> tuple[LeaseState, ...]:
        await asyncio.sleep(2 * STALL_LIMIT_SECONDS)
        self.renewals += 1
        return await super().renew(*args, **kwargs)

    async def surrender(self, *args: Any, **kwargs: Any) -> int:
        self.surrendered += 1
        return await super().surrender(*args, **kwargs)


Run = tuple[str, asyncio.Future[Outcome]]


@asynccontextmanager
async def beating(
    store: InMemoryTaskStore,
    *,
    stall_limit_seconds: float = STALL_LIMIT_SECONDS,
    renew_seconds: float = RENEW_SECONDS,
    limits: ExecutorLimits = UNBOUND,
) -> AsyncIterator[Callable[..., Awaitable[list[Run]]]]:
    """Watch a process by its heartbeat; yields what starts runs of agents there."""
    loop = LoopThread("runs")
    under_way: list[asyncio.Future[Outcome]] = []
    executor = executor_on(store, limits)

    async def start(*names: str, rings: int = 1, **fields: float) -> list[Run]:
        tasks = [Task(agent_name=name, **fields) for name in names]
        creations = await store.create(tasks)
        ids = [each.task.id for each in creations if isinstance(each, Creation)]
        calls = [executor.run("default", task_id) for task_id in ids * rings]
        runs = [asyncio.run_coroutine_threadsafe(call, loop.loop) for call in calls]
        under_way.extend(map(asyncio.wrap_future, runs))
        begun = under_way[-len(runs) :][: len(ids)]
        return list(zip(ids, begun, strict=True))

    heartbeat = heartbeat_of(
        executor, store, loop, stall_limit_seconds, renew_seconds=renew_seconds
    )
    heartbeat.start()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield start
    finally:
        loop.loop.call_soon_threadsafe(executor.abandon)
        await asyncio.wait(under_way, timeout=DEADLINE_SECONDS)
        await asyncio.to_thread(heartbeat.close)
        loop.close()


def executor_on(store: InMemoryTaskStore, limits: ExecutorLimits = UNBOUND) -> Executor:
    manager = LocalAgentManager(ScriptedLLMProvider(), ToolRegistry())
    manager.register_agent(AgentConfig(name="patient"), Patient())
    manager.register_agent(AgentConfig(name="blocker"), Blocker())
    manager.register_agent(AgentConfig(name="answerer"), Answerer())
    parts = ExecutorParts(
        store=store,
        queue=SilentQueue(),
        manager=manager,
        conversations=None,
        conversation_config=ConversationConfig(),
    )
    return Executor(parts, worker="w", limits=limits)


def heartbeat_of(
    executor: Executor,
    store: InMemoryTaskStore,
    loop: LoopThread,
    stall_limit_seconds: float = STALL_LIMIT_SECONDS,
    renew_seconds: float = RENEW_SECONDS,
    file: Path | None = None,
) -> Heartbeat:
    directory = InMemoryAgentDirectory()

    @asynccontextmanager
    async def connect() -> AsyncIterator[HeartbeatParts]:
        sweeper = Sweeper(store, SilentQueue(), interval_seconds=0.05)
        yield HeartbeatParts(store=store, directory=directory, sweeper=sweeper)

    return Heartbeat(
        executor,
        runs_loop=loop.loop,
        describe=lambda: WorkerInfo(id="w", hostname="h", pid=1),
        connect=connect,
        times=HeartbeatTimes(
            renew_seconds=renew_seconds, stall_limit_seconds=stall_limit_seconds
        ),
        heartbeat_file=file,
    )


async def test_only_the_run_that_blocks_the_loop_is_charged() -> None:
    store = InMemoryTaskStore()
    async with beating(store) as start:
        runs = await start("patient", "blocker")
        for task_id, _ in runs:
            while (await store.get("default", task_id)).attempt == 0 or (
                (await store.get("default", task_id)).status is not TaskStatus.PENDING
            ):
                await asyncio.sleep(0.01)
        words = [(await run).word for _, run in runs]
        crashes = [(await store.get("default", task_id)).crashes for task_id, _ in runs]
    assert words == ["lease_lost", "lease_lost"]
    assert crashes == [0, 1]


@pytest.mark.parametrize("limit", ["time_limit_seconds", "deadline_seconds"])
async def test_a_limit_ends_the_record_of_a_run_that_keeps_its_loop(limit: str) -> None:
    store = InMemoryTaskStore()
    async with beating(store, stall_limit_seconds=60) as start:
        ((other, _),) = await start("patient")
        ((task_id, run),) = await start("blocker", **{limit: 0.2})
        while not (await store.get("default", task_id)).status.is_terminal:
            assert not run.done()
            await asyncio.sleep(0.01)
        ended, word = await store.get("default", task_id), (await run).word
        assert (await store.get("default", other)).status is TaskStatus.RUNNING
    assert ended.status is TaskStatus.TIMED_OUT
    assert ended.failure is not None
    assert "its event loop was blocked" in ended.failure.message
    assert word == "lease_lost"


async def test_a_cancel_ends_the_record_of_a_run_that_keeps_its_loop() -> None:
    store = InMemoryTaskStore()
    async with beating(store, stall_limit_seconds=60) as start:
        ((other, _),) = await start("patient")
        ((task_id, run),) = await start("blocker")
        while not (await store.get("default", task_id)).attempt:
            await asyncio.sleep(0.01)
        await store.cancel("default", task_id)
        while not (await store.get("default", task_id)).status.is_terminal:
            assert not run.done()
            await asyncio.sleep(0.01)
        ended, word = await store.get("default", task_id), (await run).word
        assert (await store.get("default", other)).status is TaskStatus.RUNNING
    assert ended.status is TaskStatus.CANCELLED
    assert word == "lease_lost"


async def test_a_cancelled_run_whose_answer_waits_for_the_store_keeps_its_lease() -> (
    None
):
    """Another run keeps the loop meanwhile."""
    store = SlowToEndStore()
    async with beating(store, stall_limit_seconds=60) as start:
        ((task_id, run),) = await start("answerer")
        await asyncio.to_thread(store.is_ending.wait, DEADLINE_SECONDS)
        await store.cancel("default", task_id)
        await start("blocker")
        word = (await run).word
    assert word == "completed"


async def test_a_worker_ends_by_its_own_limit_what_its_loop_kept_waiting() -> None:
    """The record knows nothing of that limit: whoever took it would run it again."""
    store, limits = InMemoryTaskStore(), ExecutorLimits(time_limit_seconds=0.2)
    async with beating(store, stall_limit_seconds=60, limits=limits) as start:
        ((task_id, run),) = await start("patient", time_limit_seconds=60)
        await start("blocker")
        word = (await run).word
        ended = await store.get("default", task_id)
    assert (word, ended.status) == ("timed_out", TaskStatus.TIMED_OUT)


async def test_a_cancel_that_overtakes_the_claim_acts_before_the_next_renewal() -> None:
    """One of a task that has just begun: its worker is told before it knows the run."""
    store = SlowToTellStore()
    async with beating(store, renew_seconds=60) as start:
        ((task_id, run),) = await start("patient")
        await asyncio.to_thread(store.has_claimed.wait, DEADLINE_SECONDS)
        await store.cancel("default", task_id)
        assert (await run).word == "cancelled"


async def test_such_a_cancel_acts_though_the_task_was_rung_for_twice() -> None:
    """The second call is refused, and gone, before the first knows what it has."""
    store = SlowToTellStore()
    async with beating(store, renew_seconds=60) as start:
        ((task_id, run),) = await start("patient", rings=2)
        await asyncio.to_thread(store.has_claimed.wait, DEADLINE_SECONDS)
        await store.cancel("default", task_id)
        assert (await run).word == "cancelled"


async def test_an_answer_that_waits_for_the_store_is_not_overdue() -> None:
    """Another run keeps the loop meanwhile."""
    store = SlowToEndStore()
    async with beating(store, stall_limit_seconds=60) as start:
        ((task_id, run),) = await start("answerer", time_limit_seconds=0.2)
        await asyncio.to_thread(store.is_ending.wait, DEADLINE_SECONDS)
        await start("blocker")
        word = (await run).word
        ended = await store.get("default", task_id)
    assert (word, ended.status) == ("completed", TaskStatus.COMPLETED)


async def test_a_loop_that_moves_keeps_its_leases_however_slow_their_renewal() -> None:
    store = SlowStore()
    async with beating(store) as start:
        await start("patient")
        while store.renewals < 3 and not store.surrendered:
            await asyncio.sleep(0.01)
    assert store.surrendered == 0


async def test_what_a_worker_has_not_given_back_is_free_once_it_is_closed() -> None:
    """As if it had been killed; nobody finds its process when it has withdrawn."""
    store, loop = InMemoryTaskStore(), LoopThread("runs")
    executor = executor_on(store)
    heartbeat = heartbeat_of(executor, store, loop)
    heartbeat.start()
    task = Task(agent_name="patient")
    await store.create([task])
    running = executor.run("default", task.id)
    cut_short = asyncio.run_coroutine_threadsafe(running, loop.loop)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not executor.runs:
            await asyncio.sleep(0.01)
        cut_short.cancel()
        while executor.runs:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(heartbeat.close)
    loop.close()
    assert (await store.sweep()).recovered == 1
    assert (await store.get("default", task.id)).crashes == 0


def test_one_that_is_closed_before_its_thread_has_begun_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begins = threading.Event()
    run = asyncio.BaseEventLoop.run_until_complete

    def run_late(loop: asyncio.BaseEventLoop, coroutine: Any) -> Any:
        begins.wait(DEADLINE_SECONDS)
        return run(loop, coroutine)

    monkeypatch.setattr(asyncio.BaseEventLoop, "run_until_complete", run_late)
    store, loop = InMemoryTaskStore(), LoopThread("runs")
    heartbeat = heartbeat_of(executor_on(store), store, loop)
    heartbeat.start()
    threading.Timer(0.1, begins.set).start()
    heartbeat.close()
    assert "celeriac-heartbeat" not in [each.name for each in threading.enumerate()]
    loop.close()


def test_a_heartbeat_file_that_is_not_written_is_told_in_a_line_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    store, loop = InMemoryTaskStore(), LoopThread("runs")
    heartbeat = heartbeat_of(executor_on(store), store, loop, file=tmp_path)
    heartbeat.start()
    assert heartbeat.wait_announced(DEADLINE_SECONDS)
    heartbeat.close()
    loop.close()
    [told] = [each for each in caplog.records if each.levelname != "DEBUG"]
    assert (
        told.getMessage() == f"heartbeat file {tmp_path} not written (Is a directory)"
    )
    assert told.exc_info is None
