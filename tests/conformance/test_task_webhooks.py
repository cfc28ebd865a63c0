"""Webhooks wait in the store until they are settled, on every store."""

from __future__ import annotations

import asyncio

from orchestrator.store import TaskFilter
from orchestrator.task import Task
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import claim, completed, submitted, until

URL = "https://hooks.example.com/"


async def ended(stores: Stores, **fields: object) -> Task:
    task = await submitted(stores.tasks, webhook=URL, **fields)
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    return task


async def take(stores: Stores, seconds: float = 30) -> tuple[tuple[str, str], ...]:
    return await stores.tasks.take_webhooks(limit=10, lease_seconds=seconds)


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


async def test_a_delivery_that_is_put_off_is_no_attempt(stores: Stores) -> None:
    task = await ended(stores)
    await take(stores)
    await stores.tasks.settle_webhook(
        "default", task.id, error=None, again_after_seconds=0.01
    )
    await asyncio.sleep(0.02)
    assert await take(stores) == (("default", task.id),)
    record = await stores.tasks.get("default", task.id)
    assert (record.webhook_attempts, record.webhook_delivered_at) == (0, None)


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
