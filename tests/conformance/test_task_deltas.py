"""How long a log holds the pieces that a text came in, with every store."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from orchestrator.events import EventType, NewEvent, TaskEvent
from orchestrator.journal import Step, StepKind
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import LastStep, Lease
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import completed, running, submitted

TINY = 0.02
PIECES = [
    NewEvent(type=EventType.PART_ADDED, data={"item_id": "msg-1"}),
    *(
        NewEvent(type=EventType.TEXT_DELTA, data={"delta": f"piece {n} "})
        for n in range(150)
    ),
    NewEvent(type=EventType.TEXT_DONE, data={"text": "whole"}),
    NewEvent(type=EventType.ARGUMENTS_DELTA, data={"delta": "{}"}),
    NewEvent(type=EventType.ARGUMENTS_DONE, data={"arguments": "{}"}),
]


async def spoken(stores: Stores) -> Lease:
    lease = await running(stores.tasks)
    await stores.tasks.append_events(lease, PIECES)
    return lease


async def ended(stores: Stores) -> Lease:
    lease = await spoken(stores)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0.1)
    return lease


async def log(stores: Stores, lease: Lease) -> tuple[TaskEvent, ...]:
    return await stores.tasks.events(lease.tenant, lease.task_id)


async def swept_log(stores: Stores, lease: Lease) -> tuple[TaskEvent, ...]:
    await asyncio.sleep(TINY * 1.5)
    await stores.tasks.sweep()
    return await log(stores, lease)


async def test_deltas_go_after_the_end_and_all_else_keeps_its_numbers(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(delta_ttl_seconds=TINY)
    lease = await ended(stores)
    before = await log(stores, lease)
    assert [event.sequence for event in before] == list(range(len(before)))
    after = await swept_log(stores, lease)
    assert after == tuple(event for event in before if not event.type.is_delta)
    assert len(before) - len(after) == 151


@pytest.mark.parametrize("with_end", [True, False])
async def test_deltas_that_came_with_a_step_go_too(
    open_stores: OpenStores, with_end: bool
) -> None:
    stores = open_stores(delta_ttl_seconds=TINY)
    lease = await running(stores.tasks)
    step = LastStep(Step(key="completion:1", kind=StepKind.COMPLETION), (*PIECES,))
    if not with_end:
        await stores.tasks.record_step(lease, *step)
    last = step if with_end else None
    await stores.tasks.finish(lease, completed(lease), running_seconds=0.1, last=last)
    before = await log(stores, lease)
    after = await swept_log(stores, lease)
    assert len(before) - len(after) == 151
    assert not any(event.type.is_delta for event in after)


async def test_readers_go_on_at_any_number_of_what_was_dropped(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(delta_ttl_seconds=TINY)
    lease = await ended(stores)
    kept = await swept_log(stores, lease)
    for place in (-5, 0, 3, 4, 80, 155, kept[-1].sequence, 10_000):
        found = await stores.tasks.events(lease.tenant, lease.task_id, after=place)
        assert found == tuple(event for event in kept if event.sequence > place)


async def test_deltas_stay_while_the_task_runs_and_for_their_time(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(delta_ttl_seconds=TINY)
    lease = await spoken(stores)
    assert len(await swept_log(stores, lease)) > len(PIECES)
    patient = open_stores(delta_ttl_seconds=3600)
    lease = await ended(patient)
    assert len(await swept_log(patient, lease)) > len(PIECES)


async def test_a_sweep_drops_of_so_many_logs_only(open_stores: OpenStores) -> None:
    stores = open_stores(delta_ttl_seconds=TINY)
    leases = [await ended(stores) for _ in range(3)]
    await asyncio.sleep(TINY * 1.5)
    for left in (2, 1, 0):
        await stores.tasks.sweep(limit=1)
        logs = [await log(stores, lease) for lease in leases]
        assert sum(any(e.type.is_delta for e in events) for events in logs) == left


async def test_a_task_that_is_deleted_leaves_nothing_to_drop(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(delta_ttl_seconds=TINY)
    task = await submitted(stores.tasks)
    await stores.tasks.cancel("default", task.id)
    await stores.tasks.delete("default", task.id)
    await asyncio.sleep(TINY * 1.5)
    assert (await stores.tasks.sweep()).doorbells == ()


async def test_redis_gets_the_memory_of_deltas_back(client: Redis) -> None:
    store = RedisTaskStore(client, delta_ttl_seconds=TINY)
    lease = await running(store)
    await store.append_events(lease, PIECES)
    await store.finish(lease, completed(lease), running_seconds=0.1)
    key = f"celeriac:default:task:{lease.task_id}:events"
    before, lives = await client.memory_usage(key), await client.pttl(key)
    await asyncio.sleep(TINY * 1.5)
    await store.sweep()
    after = await client.memory_usage(key)
    assert before is not None
    assert after is not None
    assert after < before / 2
    assert (
        0
        < lives - await client.pttl(key)
        < timedelta(minutes=5) / timedelta(milliseconds=1)
    )
    assert await client.zcard("celeriac:_fleet:deltas") == 0
