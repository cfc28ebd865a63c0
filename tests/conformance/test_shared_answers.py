"""Whose answer equal requests share, when tasks of the same request overlap."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Ending
from orchestrator.task import TaskStatus
from orchestrator.task_record import cache_hash
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import claim, completed, failed, submit, submitted

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
