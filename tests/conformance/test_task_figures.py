"""Counters, queue lengths and ages: each transition counts once, in both stores."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.journal import Step, StepKind
from orchestrator.metrics import BUCKETS_SECONDS, IN_TOOLS
from orchestrator.store import TaskStore
from orchestrator.task import TaskFailure, TaskStatus, Usage
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    failed,
    running,
    submitted,
    sweep_until,
    worker,
)

TENANT = "default"


@pytest.fixture
def store(stores: Stores) -> TaskStore:
    return stores.tasks


async def unfinished(store: TaskStore, tenant: str = TENANT) -> dict[str, int]:
    found = (await store.counters(tenant)).by_labels("tasks", 2)
    return {status: n for (status, agent), n in found.items() if n and agent == AGENT}


async def ended(store: TaskStore) -> dict[str, int]:
    found = (await store.counters(TENANT)).times("ended", 2)
    return {status: sum(times.counts) for (status, _), times in found.items()}


async def released(store: TaskStore) -> dict[str, int]:
    found = (await store.counters(TENANT)).by_labels("released", 2)
    return {cause: n for (cause, _), n in found.items()}


async def test_unfinished_tasks_are_counted_by_where_they_stand(
    store: TaskStore,
) -> None:
    tasks = [await submitted(store) for _ in range(3)]
    assert await unfinished(store) == {"pending": 3}
    lease = (await claim(store, tasks[0])).lease
    assert await unfinished(store) == {"pending": 2, "running": 1}
    await store.finish(lease, completed(lease), running_seconds=1.5)
    await store.cancel(TENANT, tasks[1].id)
    await store.cancel(TENANT, tasks[1].id)
    assert await unfinished(store) == {"pending": 1}
    assert await ended(store) == {"completed": 1, "cancelled": 1}
    assert (await store.counters(TENANT)).by_labels("running_ms", 1)[AGENT,] == 1500


async def test_a_repeated_end_counts_once(store: TaskStore) -> None:
    lease = await running(store)
    for _ in range(2):
        await store.finish(lease, failed(), running_seconds=1)
    assert await ended(store) == {"failed": 1}


async def test_a_claim_counts_how_long_the_task_was_due(store: TaskStore) -> None:
    await claim(store, await submitted(store))
    wait = (await store.counters(TENANT)).times("wait", 1)[AGENT,]
    assert sum(wait.counts) == 1
    assert 0 <= wait.seconds < BUCKETS_SECONDS[-1]


async def test_a_step_counts_once_and_a_refused_one_never(store: TaskStore) -> None:
    lease = await running(store)
    usage = Usage(input_tokens=100, output_tokens=7, cached_tokens=60)
    step = Step(
        key="completion:1",
        kind=StepKind.COMPLETION,
        name="a model:7b",
        usage=usage,
        seconds=0.3,
        cost_micros=42,
        waited_seconds=0.25,
    )
    for _ in range(2):
        await store.record_step(lease, step)
    counters = await store.counters(TENANT)
    assert counters.by_labels("tokens", 2) == {
        ("cached_input", "a model:7b"): 60,
        ("input", "a model:7b"): 100,
        ("output", "a model:7b"): 7,
    }
    assert counters.by_labels("cost", 1) == {("a model:7b",): 42}
    assert counters.by_labels("gate_ms", 1) == {("a model:7b",): 250}
    times = counters.times("completion", 1)["a model:7b",]
    assert (sum(times.counts), times.seconds) == (1, 0.3)
    assert times.counts[BUCKETS_SECONDS.index(0.5)] == 1


async def test_tool_calls_count_by_outcome_and_invented_names_as_one(
    store: TaskStore,
) -> None:
    lease = await running(store)
    calls = [("search", None), ("search", "tool_timeout"), ("rm -rf", "unknown_tool")]
    for number, (name, error) in enumerate(calls):
        step = Step(
            key=f"tool:{number}",
            kind=StepKind.TOOL_CALL,
            name=name,
            error=error,
            usage=Usage(input_tokens=5),
            seconds=7200,
        )
        await store.record_step(lease, step)
    counters = await store.counters(TENANT)
    found = counters.times("call", 2)
    assert {key: times.counts[-1] for key, times in found.items()} == {
        ("ok", "search"): 1,
        ("tool_timeout", "search"): 1,
        ("unknown_tool", "?"): 1,
    }
    assert counters.by_labels("tokens", 2) == {("input", IN_TOOLS): 15}


async def test_attempts_that_end_without_their_task_count_by_cause(
    store: TaskStore,
) -> None:
    task = await submitted(store)
    lease = (await claim(store, task)).lease
    failure = TaskFailure(code="boom", message="It broke; mend it.", attempt=1)
    await store.release(lease, running_seconds=1, reason="again", failure=failure)
    lease = (await claim(store, task)).lease
    await store.release(lease, running_seconds=1, reason="the worker stops")
    await claim(store, task, lease_seconds=0.001)
    await sweep_until(store, task, TaskStatus.PENDING)
    lease = (await claim(store, task)).lease
    await store.release(lease, running_seconds=1, reason="gate", delay_seconds=60)
    assert await released(store) == {
        "failure": 1,
        "hand_over": 1,
        "lease_lost": 1,
        "wait": 1,
    }
    assert await unfinished(store) == {"pending": 1}


async def test_a_lease_lost_by_a_task_that_ends_is_no_attempt_that_goes_on(
    open_stores: OpenStores,
) -> None:
    store = open_stores(max_crashes=1).tasks
    cancelled = await submitted(store)
    await claim(store, cancelled, lease_seconds=0.001)
    await store.cancel(TENANT, cancelled.id)
    await sweep_until(store, cancelled, TaskStatus.CANCELLED)
    overdue = await submitted(store, time_limit_seconds=0.001)
    await claim(store, overdue, lease_seconds=0.01)
    await sweep_until(store, overdue, TaskStatus.TIMED_OUT)
    assert await released(store) == {}


async def test_a_tenant_sees_its_own_figures(store: TaskStore) -> None:
    await submitted(store, tenant="a")
    await submitted(store, tenant="b")
    await submitted(store, tenant="b")
    assert await store.tenants() == ("a", "b")
    assert await unfinished(store, "a") == {"pending": 1}
    assert await unfinished(store, "b") == {"pending": 2}
    assert set(await store.oldest_due("a")) == {AGENT}
    assert await store.oldest_due("c") == {}
    assert await unfinished(store, "c") == {}
    assert await store.tenants() == ("a", "b")


async def test_the_oldest_due_task_is_neither_held_nor_delayed(
    store: TaskStore,
) -> None:
    first = await submitted(store, agent_name="other")
    await submitted(store, after=(first.id,))
    assert set(await store.oldest_due(TENANT)) == {"other"}
    lease = await running(store, agent_name=AGENT)
    await store.release(lease, running_seconds=0, reason="gate", delay_seconds=60)
    assert set(await store.oldest_due(TENANT)) == {"other"}


async def test_queues_tell_what_is_rung_for_what_waits_and_the_slots(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=2)
    assert await stores.tasks.queues() == ()
    for _ in range(3):
        await submitted(stores.tasks)
    (queue,) = await stores.tasks.queues()
    assert (queue.name, queue.rung, queue.in_line, queue.slots) == ("celeriac", 2, 1, 0)
    await stores.directory.announce(worker(AGENT), ttl_seconds=60)
    (queue,) = await stores.tasks.queues()
    assert queue.slots == 1


async def test_slots_are_those_that_live_workers_told_last(stores: Stores) -> None:
    async def announced(name: str, slots: int, *, ttl_seconds: float = 60) -> int:
        info = worker(AGENT, worker_id=name).model_copy(update={"slots": slots})
        await stores.directory.announce(info, ttl_seconds=ttl_seconds)
        return sum(queue.slots for queue in await stores.tasks.queues())

    assert await announced("a", 4) == 4
    assert await announced("a", 4) == 4
    assert await announced("a", 6) == 6
    assert await announced("b", 3) == 9
    await announced("b", 3, ttl_seconds=0.02)
    await asyncio.sleep(0.05)
    assert await announced("a", 1) == 1


async def test_invented_names_fill_no_store(open_stores: OpenStores) -> None:
    store = open_stores(most_counters=20).tasks
    lease = await running(store)
    for number in range(50):
        step = Step(
            key=f"completion:{number}",
            kind=StepKind.COMPLETION,
            name=f"model-{number}",
            seconds=1,
        )
        await store.record_step(lease, step)
    counters = await store.counters(TENANT)
    assert len(counters.times("completion", 1)) <= 20
    assert counters.total("dropped") > 50


async def test_agents_that_are_asked_for_once_fill_no_store(
    open_stores: OpenStores,
) -> None:
    store = open_stores(most_counters=20).tasks
    for number in range(30):
        task = await submitted(store, agent_name=f"agent-{number}")
        await store.cancel(TENANT, task.id)
    kept = await submitted(store)
    counters = await store.counters(TENANT)
    assert counters.by_labels("tasks", 2) == {("pending", kept.agent_name): 1}


async def test_unfinished_tasks_of_a_tenant_are_counted(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await submitted(stores.tasks)
    await submitted(stores.tasks, tenant="acme")
    ended = await submitted(stores.tasks)
    await stores.tasks.cancel("default", ended.id)
    counts = [await stores.tasks.unfinished(name) for name in ("default", "acme", "x")]
    assert counts == [2, 1, 0]
    await stores.tasks.finish(lease, completed(lease), running_seconds=0.1)
    assert await stores.tasks.unfinished("default") == 1
