"""How long a task's budget account is kept: as long as the task, also a parked one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.budget import Account, Amount
from orchestrator.dues import Admitted, Hold, Needs
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_store import RedisTaskStore
from tests.conformance.conftest import OpenStores
from tests.conformance.task_steps import claim, completed, running, submitted

RESULT_TTL_SECONDS = 50.0
BACKSTOP_SECONDS = 86_400


def account(task_id: str) -> Account:
    return Account(kind="task", name=task_id, max_tokens=1000)


async def spend(toll: Any, task_id: str, token: str = "1") -> None:  # noqa: S107
    hold = Hold("default", token, (account(task_id),), Amount(tokens=10))
    assert isinstance(await toll.admit(Needs(hold=hold)), Admitted)


async def test_a_task_that_is_removed_takes_what_it_has_spent_along(
    open_stores: OpenStores,
):
    stores = open_stores(result_ttl_seconds=RESULT_TTL_SECONDS)
    lease = await running(stores.tasks, id="once")
    await spend(stores.toll, "once")
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    assert await stores.budget.spent("default", account("once")) == Amount(10)
    await stores.tasks.delete("default", "once")
    assert await stores.budget.spent("default", account("once")) == Amount()
    await claim(stores.tasks, await submitted(stores.tasks, id="once"))
    await spend(stores.toll, "once", token="2")  # noqa: S106
    assert await stores.budget.spent("default", account("once")) == Amount(10)


@pytest.fixture
def tasks(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client, result_ttl_seconds=RESULT_TTL_SECONDS)


async def test_an_account_in_redis_has_no_end_before_its_task_has(
    client: Redis, tasks: RedisTaskStore
):
    parked = await submitted(
        tasks, not_before=datetime.now(UTC) + timedelta(days=365), id="parked"
    )
    await spend(RedisToll(client), parked.id)
    assert await client.ttl(redis_keys.budget("default", "task", parked.id)) == -1


async def test_an_account_in_redis_ends_with_its_task(
    client: Redis, tasks: RedisTaskStore
):
    lease = await running(tasks, id="once")
    key = redis_keys.budget("default", "task", "once")
    await spend(RedisToll(client), "once")
    await tasks.finish(lease, completed(lease), running_seconds=0)
    record = await client.ttl(redis_keys.record("default", "once"))
    assert abs(await client.ttl(key) - record) <= 1
    await client.delete(key)  # a call that comes after the end begins it anew
    await spend(RedisToll(client), "once", token="2")  # noqa: S106
    assert abs(await client.ttl(key) - record) <= 1
    assert BACKSTOP_SECONDS <= record <= RESULT_TTL_SECONDS + BACKSTOP_SECONDS


async def test_an_account_of_a_task_that_is_gone_ends_by_itself(client: Redis):
    await spend(RedisToll(client), "gone")
    assert await RedisBudget(client).spent("default", account("gone")) == Amount(10)
    assert await client.ttl(redis_keys.budget("default", "task", "gone")) > 0


async def test_an_account_that_was_there_before_its_task_has_no_end_before_it_either(
    client: Redis, tasks: RedisTaskStore
):
    toll, key = RedisToll(client), redis_keys.budget("default", "task", "again")
    await spend(toll, "again")  # a late call of one that is gone
    assert await client.ttl(key) > 0
    await submitted(tasks, id="again")
    await spend(toll, "again", token="2")  # noqa: S106
    assert await client.ttl(key) == -1
