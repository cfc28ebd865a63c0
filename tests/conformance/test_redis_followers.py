"""Many tasks that wait for one: Redis is not held until all are rung for."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import RefusalReason
from orchestrator.task import Task
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    submitted,
    try_claim,
)

FOLLOWERS = 450
WOKEN_AT_ONCE = 200


async def changed_tasks(client: Redis) -> int:
    """How many tasks are rung for or stand in line."""
    (queue,) = await RedisTaskStore(client).queues()
    return queue.rung + queue.in_line


async def ended_before(store: RedisTaskStore, followers: int) -> Task:
    """Return a task that has ended, for which so many others waited."""
    first = await submitted(store)
    lease = (await claim(store, first)).lease
    tasks = [Task(agent_name=AGENT, after=(first.id,)) for _ in range(followers)]
    await store.create(tasks)
    await store.finish(lease, completed(lease), running_seconds=0)
    return first


async def test_those_who_waited_for_one_end_are_rung_for_in_pieces(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    first = await ended_before(store, FOLLOWERS)
    assert await changed_tasks(client) == WOKEN_AT_ONCE
    found = []
    for _ in range(3):
        more = (await store.sweep()).more
        found.append((await changed_tasks(client), more))
    assert found == [(400, True), (450, True), (450, False)]
    assert not await client.exists(redis_keys.FOLLOWED)
    assert not await client.exists(redis_keys.record("default", first.id) + ":then")


@pytest.mark.parametrize("damage", ["foreign", "due_ms", "agent"])
async def test_what_is_damaged_keeps_no_other_that_waited(
    client: Redis, damage: str
) -> None:
    store = RedisTaskStore(client)
    first = await submitted(store)
    lease = (await claim(store, first)).lease
    lost, other = [await submitted(store, after=(first.id,)) for _ in ("lost", "other")]
    record = redis_keys.record("default", lost.id)
    if damage == "foreign":
        await client.set(record, damage)
    else:
        await client.hdel(record, damage)
    bells = await store.finish(lease, completed(lease), running_seconds=0)
    assert [bell.task_id for bell in bells] == [other.id]
    assert not await client.exists(redis_keys.record("default", first.id) + ":then")


async def test_a_damaged_status_keeps_none_of_many_that_waited(client: Redis) -> None:
    store = RedisTaskStore(client)
    first = await ended_before(store, 201)
    await client.hset(redis_keys.record("default", first.id), "status", "damaged")
    await store.sweep()
    assert await changed_tasks(client) == 201
    assert not await client.exists(redis_keys.FOLLOWED)


async def test_who_waits_for_a_new_task_of_the_id_is_not_woken_for_the_old_one(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    first = await ended_before(store, 201)
    await store.delete("default", first.id)
    again = await submitted(store, id=first.id)
    waiting = await submitted(store, after=(first.id,))
    await store.sweep()
    assert await try_claim(store, waiting) is RefusalReason.NOT_DUE
    lease = (await claim(store, again)).lease
    await store.finish(lease, completed(lease), running_seconds=0)
    await store.sweep()
    assert await changed_tasks(client) == 202
    assert not await client.exists(redis_keys.FOLLOWED)
