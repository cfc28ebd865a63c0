"""Whose answer equal requests share, when tasks of the same request overlap."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.errors import IdempotencyConflict
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Ending
from orchestrator.task import Task, TaskStatus
from orchestrator.task_record import cache_hash
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    failed,
    submit,
    submitted,
    until,
)

REQUEST = {"cache_ttl_seconds": 60, "input": {"q": 1}}


async def test_a_run_that_is_to_end_is_not_shared_and_takes_no_later_one_along(
    stores: Stores,
) -> None:
    first = await submitted(stores.tasks, **REQUEST)
    lease = (await claim(stores.tasks, first)).lease
    await stores.tasks.cancel("default", first.id)
    second = await submit(stores.tasks, **REQUEST)
    assert second.created
    cancelled = Ending(status=TaskStatus.CANCELLED)
    await stores.tasks.finish(lease, cancelled, running_seconds=0)
    third = await submit(stores.tasks, **REQUEST)
    assert (third.task.id, third.created) == (second.task.id, False)


async def test_an_answer_that_comes_after_a_cancel_does_not_replace_a_later_one(
    stores: Stores,
) -> None:
    first = await submitted(stores.tasks, **REQUEST)
    lease = (await claim(stores.tasks, first)).lease
    await stores.tasks.cancel("default", first.id)
    second = await submitted(stores.tasks, **REQUEST)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    third = await submit(stores.tasks, **REQUEST)
    assert (third.task.id, third.created) == (second.id, False)


@pytest.mark.parametrize("end", ["completed", "partial", "failed"])
async def test_only_what_may_be_shared_is_remembered_beyond_the_end(
    client: Redis, end: str
) -> None:
    store = RedisTaskStore(client)
    task = await submitted(store, **REQUEST)
    key = redis_keys.cache(task.tenant, cache_hash(task))
    assert (await client.get(key), await client.pttl(key)) == (task.id, -1)
    lease = (await claim(store, task)).lease
    ending = failed() if end == "failed" else completed(lease, partial=end == "partial")
    await store.finish(lease, ending, running_seconds=0)
    left = await client.pttl(key)
    assert left > 0 if end == "completed" else left == -2


async def test_a_key_leads_to_the_answer_that_its_request_was_given(
    stores: Stores,
) -> None:
    first = await submitted(stores.tasks, **REQUEST)
    keyed = {**REQUEST, "idempotency_key": "k"}
    shared = await submit(stores.tasks, **keyed)
    assert (shared.task.id, shared.created) == (first.id, False)
    other = Task(agent_name=AGENT, idempotency_key="k", input={"q": 2})
    (refused,) = await stores.tasks.create([other])
    assert isinstance(refused, IdempotencyConflict)
    lease = (await claim(stores.tasks, first)).lease
    partial = completed(lease, partial=True)  # which is shared no more
    await stores.tasks.finish(lease, partial, running_seconds=0)
    again = await submit(stores.tasks, **keyed)
    assert (again.task.id, again.created) == (first.id, False)


async def test_a_key_that_was_lent_goes_with_its_task_and_with_its_time(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(idempotency_ttl_seconds=0.05)
    first = await submitted(stores.tasks, **REQUEST)
    lease = (await claim(stores.tasks, first)).lease
    await submit(stores.tasks, **REQUEST, idempotency_key="k")
    await submit(stores.tasks, **REQUEST, idempotency_key="l")
    partial = completed(lease, partial=True)
    await stores.tasks.finish(lease, partial, running_seconds=0)

    async def is_over() -> bool:
        return (await submit(stores.tasks, **REQUEST, idempotency_key="k")).created

    await until(is_over)
    await stores.tasks.delete("default", first.id)
    assert (await submit(stores.tasks, input={}, idempotency_key="l")).created


async def test_a_key_tells_its_task(stores: Stores) -> None:
    assert await stores.tasks.find_keyed("default", "k") is None
    task = await submitted(stores.tasks, idempotency_key="k")
    assert await stores.tasks.find_keyed("default", "k") == task.id
    assert await stores.tasks.find_keyed("acme", "k") is None
