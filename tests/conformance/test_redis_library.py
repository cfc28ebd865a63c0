"""The task scripts as a library of functions, on a real Redis that keeps such."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator.errors import StoreUnavailable
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.task import TaskStatus
from tests.conformance.task_steps import AGENT, completed, running, submit, submitted

UNTRUSTED = ["+@all", "-@admin", "-@dangerous", "-function", "+info", "~*", "&*"]
"""The rights of a user that may run scripts and load no library."""


@pytest.fixture(autouse=True)
async def _library_server(client: Redis) -> AsyncIterator[None]:
    if (await client.info("server"))["redis_version"].startswith("6."):
        pytest.skip("Redis 6 knows no functions")
    await client.execute_command("CONFIG", "RESETSTAT")
    yield
    await client.execute_command("FUNCTION", "FLUSH")


async def calls(client: Redis, command: str) -> int:
    stats: dict[str, Any] = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def a_life(store: RedisTaskStore) -> None:
    lease = await running(store)
    await store.finish(lease, completed(lease), running_seconds=1)
    task = await store.get("default", lease.task_id)
    assert task.status is TaskStatus.COMPLETED


async def test_a_task_runs_by_functions_that_are_loaded_once(client: Redis) -> None:
    await a_life(RedisTaskStore(client))
    libraries = await client.execute_command("FUNCTION", "LIST")
    await a_life(RedisTaskStore(client))
    assert await client.execute_command("FUNCTION", "LIST") == libraries
    assert await calls(client, "fcall") == 6
    assert await calls(client, "evalsha") == 0


async def test_functions_that_are_gone_are_loaded_again(client: Redis) -> None:
    store = RedisTaskStore(client)
    await submitted(store)
    await client.execute_command("FUNCTION", "FLUSH")
    await client.script_flush()
    await a_life(store)
    assert await calls(client, "evalsha") == 0


async def test_a_call_finds_nothing_of_the_one_before(client: Redis) -> None:
    """What a library's functions share stands for one call each."""
    store = RedisTaskStore(client)
    first = await submit(store, tags=("one",), idempotency_key="key")
    second = await submit(store, tenant="other")
    assert first.task.id != second.task.id
    assert (await store.get("other", second.task.id)).tags == ()
    for tenant in ("default", "other"):
        counted = (await store.counters(tenant)).by_labels("tasks", 2)
        assert counted == {("pending", AGENT): 1}


async def test_a_user_who_may_load_none_calls_scripts(
    client: Redis, clean_redis_url: str
) -> None:
    await client.execute_command("ACL", "SETUSER", "plain", "on", ">x", *UNTRUSTED)
    theirs = connect(clean_redis_url.replace("://", "://plain:x@", 1))
    try:
        await a_life(RedisTaskStore(theirs))
    finally:
        await theirs.aclose()
        await client.execute_command("ACL", "DELUSER", "plain")
    assert await calls(client, "fcall") == 0
    assert await calls(client, "evalsha") == 3


async def test_a_loading_that_broke_off_is_done_again(
    client: Redis, clean_redis_url: str
) -> None:
    """Between library and scripts: what is called then is in neither."""
    rights = ["on", ">x", *UNTRUSTED, "+function"]
    await client.execute_command("ACL", "SETUSER", "plain", *rights)
    theirs = connect(clean_redis_url.replace("://", "://plain:x@", 1))
    try:
        store = RedisTaskStore(theirs)
        await a_life(store)
        await client.execute_command("FUNCTION", "FLUSH")
        await client.script_flush()
        await client.execute_command("ACL", "SETUSER", "plain", "-function", "-script")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await submit(store)
        await client.execute_command("ACL", "SETUSER", "plain", "+script")
        await a_life(store)
    finally:
        await theirs.aclose()
        await client.execute_command("ACL", "DELUSER", "plain")
