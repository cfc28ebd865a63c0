"""Waiting for a result ends on time, whatever becomes of a cancel."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from orchestrator import AsyncOrchestrator, task_reader
from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.errors import (
    AgentNotFound,
    InvalidInput,
    StoreUnavailable,
    TaskNotFound,
    WaitTimeout,
)
from orchestrator.events import TaskEvent
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.settings import Settings
from orchestrator.store import Claim, Doorbell, Lease, TaskEnd
from orchestrator.task import Task, TaskStatus
from tests.conformance.task_steps import completed
from tests.unit.orchestrator.memory_parts import memory_parts

LONG_SECONDS = 1.5
"""Less than one read of the event log blocks, more than a busy machine takes."""


class DeafQueue:
    """Takes doorbells; nobody comes."""

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None: ...

    async def aclose(self) -> None: ...


class DeafToCancelStore(InMemoryTaskStore):
    """Reads events to the end of the wait, like a client that swallows a cancel."""

    async def events(self, *args: Any, **options: Any) -> tuple[TaskEvent, ...]:
        read = asyncio.ensure_future(super().events(*args, **options))
        while not read.done():
            try:
                await asyncio.shield(read)
            except asyncio.CancelledError:
                continue
        return read.result()


class AwayStore(InMemoryTaskStore):
    """Cannot read events."""

    async def events(self, *args: Any, **options: Any) -> tuple[TaskEvent, ...]:
        raise StoreUnavailable("away")


def orchestrator(
    store: InMemoryTaskStore,
    *,
    queue: DeafQueue | None = None,
    directory: InMemoryAgentDirectory | None = None,
    agents: Mapping[str, AgentConfig] | None = None,
) -> AsyncOrchestrator:
    return AsyncOrchestrator(
        Settings(),
        parts=memory_parts(
            store=store,
            queue=queue or DeafQueue(),
            directory=directory or InMemoryAgentDirectory(),
            agents=agents or {},
        ),
    )


async def held(store: InMemoryTaskStore, task_id: str) -> Lease:
    claimed = await store.claim(
        "default", task_id, worker="w", serves=["nobody"], lease_seconds=60
    )
    assert isinstance(claimed, Claim)
    return claimed.lease


@pytest.mark.parametrize("timeout", [0, 0.2])
async def test_a_wait_ends_on_time_although_the_store_takes_no_cancel(
    timeout: float,
) -> None:
    async with orchestrator(DeafToCancelStore()) as celeriac:
        task_id = await celeriac.execute_async(Task(agent_name="nobody"))
        started = monotonic()
        with pytest.raises(
            WaitTimeout, match=rf"still pending after {timeout}\.?\d? s"
        ):
            await celeriac.result(task_id, timeout=timeout)
        assert timeout <= monotonic() - started < LONG_SECONDS


@pytest.mark.parametrize("timeout", [-1, -math.inf, math.nan, "3s", True])
async def test_a_timeout_that_is_no_wait_is_refused(timeout: Any) -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        task_id = await celeriac.execute_async(Task(agent_name="nobody"))
        with pytest.raises(InvalidInput, match=r"^timeout: must"):
            await celeriac.result(task_id, timeout=timeout)


async def test_a_wait_for_a_store_that_is_away_ends_on_time() -> None:
    async with orchestrator(AwayStore()) as celeriac:
        task_id = await celeriac.execute_async(Task(agent_name="nobody"))
        started = monotonic()
        with pytest.raises(StoreUnavailable):
            await celeriac.result(task_id, timeout=0.1)
        assert monotonic() - started < LONG_SECONDS


class RestartingStore(InMemoryTaskStore):
    """Is away at the first read of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.was_away: set[str] = set()
        self.events_asked = asyncio.Event()

    def _look(self, kind: str) -> None:
        if kind not in self.was_away:
            self.was_away.add(kind)
            raise StoreUnavailable("restarting")

    async def ends(self, *args: Any) -> tuple[TaskEnd | None, ...]:
        self._look("ends")
        return await super().ends(*args)

    async def events(self, *args: Any, **options: Any) -> tuple[TaskEvent, ...]:
        self.events_asked.set()
        self._look("events")
        return await super().events(*args, **options)


@pytest.mark.parametrize("ended", [True, False])
async def test_a_wait_outlives_a_store_that_restarts(
    ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_reader, "READ_AGAIN_SECONDS", 0.01)
    store = RestartingStore()
    async with orchestrator(store) as celeriac:
        task_id = await celeriac.execute_async(Task(agent_name="nobody"))
        lease = await held(store, task_id)
        if ended:
            await store.finish(lease, completed(lease), running_seconds=0)
        waiting = asyncio.create_task(celeriac.result(task_id, timeout=20))
        if not ended:
            async with asyncio.timeout(20):
                await store.events_asked.wait()
            await store.finish(lease, completed(lease), running_seconds=0)
        assert (await waiting).content == "done"
        assert store.was_away == ({"ends"} if ended else {"ends", "events"})


async def test_an_end_that_comes_between_two_looks_is_an_answer() -> None:
    class LateStore(InMemoryTaskStore):
        """Tells of an end that has just come only in the record."""

        async def ends(self, *args: Any) -> tuple[TaskEnd | None, ...]:
            return (TaskEnd(TaskStatus.RUNNING, None, 2),)

    store = LateStore()
    async with orchestrator(store) as celeriac:
        task_id = await celeriac.execute_async(Task(agent_name="nobody"))
        lease = await held(store, task_id)
        await store.finish(lease, completed(lease), running_seconds=0)
        assert (await celeriac.result(task_id, timeout=0)).content == "done"


async def test_a_message_that_joined_a_run_has_no_answer_of_its_own() -> None:
    store = InMemoryTaskStore()
    talk = {"agent_name": "nobody", "conversation_id": "talk"}
    joining = Task(when_busy="steer", **talk)
    await store.create([run := Task(**talk)])
    async with orchestrator(store) as celeriac:
        lease = await held(store, run.id)
        await store.create([joining])
        await store.take_messages(lease, "messages:1")
        await store.finish(lease, completed(lease), running_seconds=0)
        assert (await celeriac.result(run.id, timeout=0)).content == "done"
        with pytest.raises(TaskNotFound):
            await celeriac.result(joining.id, timeout=0)


async def test_a_wait_for_a_task_that_is_not_due_names_its_start() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        handle = await celeriac.submit("nobody", {}, not_before=later)
        with pytest.raises(WaitTimeout, match=r"its not_before is 20.*wait until then"):
            await handle.result(timeout=0)


async def test_a_wait_says_what_a_task_waits_for_although_workers_are_there() -> None:
    directory = InMemoryAgentDirectory()
    worker = WorkerInfo(
        id="h:1:1", hostname="h", pid=1, agents=(AgentConfig(name="a"),), slots=1
    )
    await directory.announce(worker, ttl_seconds=60)

    store = InMemoryTaskStore()
    async with orchestrator(store, directory=directory) as celeriac:
        first = Task(agent_name="a")
        for task, told in (
            (first, "s; busy workers come first, wait"),
            (Task(agent_name="a", after=[first.id]), "other tasks); wait again or"),
            (Task(agent_name="a", conversation_id="c"), "; earlier turns of its conv"),
        ):
            await store.create([task])
            with pytest.raises(WaitTimeout, match=re.escape(told)):
                await celeriac.result(task.id, timeout=0)


async def test_one_agent_is_told_announced_or_in_the_settings() -> None:
    directory = InMemoryAgentDirectory()
    worker = WorkerInfo(
        id="h:1:1", hostname="h", pid=1, agents=(AgentConfig(name="a"),), slots=1
    )
    await directory.announce(worker, ttl_seconds=60)
    here = {"at-home": AgentConfig(name="at-home")}
    async with orchestrator(
        InMemoryTaskStore(), directory=directory, agents=here
    ) as celeriac:
        assert (await celeriac.agent("a")).health.served
        assert not (await celeriac.agent("at-home")).health.served
        for unknown, told in (("at-hom", "did you mean 'at-home'"), ("", "lists the")):
            with pytest.raises(AgentNotFound, match=told):
                await celeriac.agent(unknown)


async def test_a_wait_tells_of_the_events_meanwhile() -> None:
    seen: list[str] = []
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        handle = await celeriac.submit("nobody", {})
        with pytest.raises(WaitTimeout):
            await handle.result(
                timeout=0, on_event=lambda event: seen.append(event.type)
            )
    assert seen[0] == "task.created"


async def test_lookups_refuse_what_cannot_be_looked_up() -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        for wrong in (None, 5):
            with pytest.raises(InvalidInput, match="task_id"):
                await celeriac.get(wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match="task_id"):
                await celeriac.result(wrong, timeout=0)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match="name"):
                await celeriac.agent(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="limit"):
            await celeriac.list(limit=0)
        with pytest.raises(InvalidInput, match="tenant"):
            await celeriac.list(tenant="a b")
