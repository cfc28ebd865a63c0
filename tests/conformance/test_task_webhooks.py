"""Webhooks wait in the store until they are settled, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import TaskFilter
from orchestrator.task import Task
from orchestrator.webhook_store import DueWebhook
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import AGENT, claim, completed, submitted, until

URL = "https://hooks.example.com/"


async def ended(stores: Stores, **fields: object) -> Task:
    task = await submitted(stores.tasks, webhook=URL, **fields)
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    return task


async def take(stores: Stores, seconds: float = 30) -> tuple[tuple[str, str], ...]:
    taken = await stores.tasks.take_webhooks(
        limit=10, lease_seconds=seconds, most_each=8, places={}
    )
    return tuple((each.tenant, each.task_id) for each in taken.due)


async def take_all(
    stores: Stores, *, most_each: int = 8, places: Mapping[str, int] | None = None
) -> list[DueWebhook]:
    found, more = list[DueWebhook](), True
    while more:
        due, more = await stores.tasks.take_webhooks(
            limit=10, lease_seconds=30, most_each=most_each, places=places or {}
        )
        found += due
    return found


async def test_an_end_with_a_webhook_is_taken_once(stores: Stores) -> None:
    assert await take(stores) == ()
    task = await ended(stores, tenant="acme")
    await submitted(stores.tasks, webhook=URL)
    assert await take(stores) == (("acme", task.id),)
    assert await take(stores) == ()


async def test_a_cancel_has_its_webhook_too(stores: Stores) -> None:
    task = await submitted(stores.tasks, webhook=URL)
    await stores.tasks.cancel("default", task.id)
    assert await take(stores) == (("default", task.id),)


async def test_a_webhook_whose_deliverer_vanished_is_due_again(stores: Stores) -> None:
    task = await ended(stores)
    assert await take(stores, 0.01)
    await asyncio.sleep(0.02)
    assert await take(stores) == (("default", task.id),)


async def test_a_delivered_webhook_is_noted_and_gone(stores: Stores) -> None:
    task = await ended(stores)
    await take(stores, 0.01)
    await stores.tasks.settle_webhook("default", task.id, error=None)
    await asyncio.sleep(0.02)
    assert await take(stores) == ()
    record = await stores.tasks.get("default", task.id)
    assert (record.webhook_attempts, record.webhook_error) == (1, None)
    assert record.webhook_delivered_at is not None


async def test_a_failed_delivery_is_noted_and_due_again_later(stores: Stores) -> None:
    task = await ended(stores)
    await take(stores)
    await stores.tasks.settle_webhook(
        "default", task.id, error="HTTP 500", again_after_seconds=0.01
    )
    record = await stores.tasks.get("default", task.id)
    assert (record.webhook_attempts, record.webhook_error) == (1, "HTTP 500")
    await asyncio.sleep(0.02)
    assert await take(stores) == (("default", task.id),)
    await stores.tasks.settle_webhook("default", task.id, error="HTTP 500")
    await stores.tasks.settle_webhook("default", "task-gone", error="gone")
    assert await take(stores, 0.0) == ()


async def test_a_delivery_that_succeeds_at_last_leaves_no_error(
    stores: Stores,
) -> None:
    task = await ended(stores)
    await take(stores)
    await stores.tasks.settle_webhook(
        "default", task.id, error="HTTP 500", again_after_seconds=0
    )
    await stores.tasks.settle_webhook("default", task.id, error=None)
    record = await stores.tasks.get("default", task.id)
    assert (record.webhook_attempts, record.webhook_error) == (2, None)
    assert record.webhook_delivered_at is not None


async def test_a_backlog_of_one_receiver_hides_nothing_of_the_others(
    stores: Stores,
) -> None:
    hanging = "https://hangs.example.com/end"
    backlog = [Task(agent_name=AGENT, webhook=hanging) for _ in range(1100)]
    await stores.tasks.create(backlog)
    for task in backlog:
        await stores.tasks.cancel("default", task.id)
    others = [(await ended(stores)).id for _ in range(3)]
    busy = {"hangs.example.com": 0}
    found = await take_all(stores, places=busy)
    assert {each.task_id for each in found} == {*others}
    assert {each.receiver for each in found} == {"hooks.example.com"}


async def test_of_one_receiver_so_many_are_taken_and_the_rest_a_little_later(
    stores: Stores,
) -> None:
    tasks = {(await ended(stores)).id for _ in range(5)}
    first = await take_all(stores, most_each=2)
    assert len(first) == 2
    found = {each.task_id for each in first}

    async def all_taken() -> bool:
        found.update(each.task_id for each in await take_all(stores, most_each=2))
        return found == tasks

    await until(all_taken)


async def test_a_webhook_that_nobody_delivers_is_forgotten_with_its_task(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(result_ttl_seconds=0.01)
    task = await ended(stores)

    async def forgotten() -> bool:
        await stores.tasks.sweep()
        page = await stores.tasks.list("default", TaskFilter())
        return task.id not in {each.id for each in page.tasks}

    await until(forgotten)
    assert await take(stores) == ()


async def test_however_long_a_backlog_is_so_many_of_it_are_looked_at_in_a_second(
    client: Redis,
) -> None:
    store, number = RedisTaskStore(client), 20_000
    async with client.pipeline(transaction=False) as pipeline:
        for each in range(number):
            pipeline.hset(redis_keys.record("acme", f"t{each}"), "webhook", "hanging")
        late = {redis_keys.member("acme", f"t{each}"): each for each in range(number)}
        pipeline.zadd(redis_keys.WEBHOOKS, late)
        await pipeline.execute()
    more = True
    while more:
        due, more = await store.take_webhooks(
            limit=10, lease_seconds=30, most_each=8, places={"hanging": 0}
        )
        assert due == ()
    server_seconds, _ = await client.time()
    soon = (server_seconds + 6) * 1000
    assert await client.zcount(redis_keys.WEBHOOKS, 0, soon) < number / 2


@pytest.mark.parametrize("again_after_seconds", [None, 0])
async def test_a_failure_that_is_told_late_undoes_no_delivery(
    stores: Stores, again_after_seconds: float | None
) -> None:
    """Of a worker that slept beyond its lease while another one delivered."""
    task = await ended(stores)
    await take(stores, seconds=0.01)
    await stores.tasks.settle_webhook("default", task.id, error=None)
    delivered = await stores.tasks.get("default", task.id)
    await stores.tasks.settle_webhook(
        "default", task.id, error="HTTP 500", again_after_seconds=again_after_seconds
    )
    assert await take(stores) == ()
    kept = await stores.tasks.get("default", task.id)
    assert delivered.webhook_delivered_at is not None
    assert kept.webhook_delivered_at == delivered.webhook_delivered_at
    assert (kept.webhook_error, kept.webhook_attempts) == (None, 1)
