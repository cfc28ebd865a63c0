"""The task scripts as a library of functions, on a real Redis that keeps such."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator.errors import StoreFull, StoreUnavailable
from orchestrator.lua_library import PREFIX, Script, library
from orchestrator.redis_connection import connect
from orchestrator.redis_keys import LIBRARIES
from orchestrator.redis_libraries import UNUSED_SECONDS
from orchestrator.redis_scripts import REFUSED_SECONDS, RedisScripts, Texts
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
    libraries = await names(client)
    await a_life(RedisTaskStore(client))
    assert await names(client) == libraries
    assert await calls(client, "fcall") == 6
    assert await calls(client, "evalsha") == 0


async def test_a_text_is_composed_for_a_loading_and_not_where_a_function_is(
    client: Redis,
) -> None:
    """The texts of all task scripts are half a MiB, and take 15 ms."""
    composed: list[str] = []

    def compose(name: str) -> str:
        composed.append(name)
        return f"return '{name} alone'"

    scripts = RedisScripts(
        client,
        sources=Texts(("shared", "alone"), compose),
        library=lambda: library("", {"shared": Script("return 'in a library'")}),
    )
    assert composed == []
    assert await scripts.run("shared", []) == "in a library"
    assert await scripts.run("alone", []) == "alone alone"
    assert set(composed) == {"alone"}
    await client.script_flush()
    assert await scripts.run("alone", []) == "alone alone"
    assert set(composed) == {"alone"}


async def test_a_library_that_a_full_redis_refuses_is_loaded_once_there_is_room(
    client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the process would go on by the scripts' texts for as long as it lives."""
    await client.execute_command("FUNCTION", "FLUSH")
    await client.script_flush()
    store = RedisTaskStore(client)
    await client.config_set("maxmemory", 1)
    try:
        for _ in range(5):
            with pytest.raises(StoreFull):
                await submitted(store)
        await store.due_schedules()
    finally:
        await client.config_set("maxmemory", 0)
    assert caplog.text == ""
    rejected = (await client.info("commandstats"))["cmdstat_function|load"]
    assert rejected["rejected_calls"] == 1  # to compose it for each call is dear
    await asyncio.sleep(REFUSED_SECONDS)
    await a_life(store)
    assert await calls(client, "evalsha") == 1


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


FOREIGN = "celeriac_of_somebody_else"


async def names(client: Redis) -> set[str]:
    """Redis lists libraries in an order that may change."""
    listed = await client.execute_command("FUNCTION", "LIST")
    return {row[row.index("library_name") + 1] for row in listed}


async def load(client: Redis, name: str) -> None:
    function = f"redis.register_function('{name}_f', function() return 1 end)"
    code = f"#!lua name={name}\n{function}"
    await client.execute_command("FUNCTION", "LOAD", code)


async def test_a_library_that_nobody_has_loaded_for_long_goes_when_one_comes(
    client: Redis,
) -> None:
    unused, used, unknown = [f"{PREFIX}{digit * 40}" for digit in "abc"]
    for name in (unused, used, unknown, FOREIGN):
        await load(client, name)
    now, _ = await client.time()
    gone, long_ago = f"{PREFIX}{'d' * 40}", now - UNUSED_SECONDS
    noted = {unused: long_ago, used: long_ago + 60, gone: now, FOREIGN: long_ago}
    await client.zadd(LIBRARIES, noted)
    await a_life(RedisTaskStore(client))
    left = await names(client)
    (ours,) = left - {used, unknown, FOREIGN}
    assert unused not in left
    assert left >= {used, unknown, FOREIGN}
    assert set(await client.zrange(LIBRARIES, 0, -1)) == {ours, used, unknown}
    assert await client.zscore(LIBRARIES, unknown) >= now


async def test_a_worker_whose_library_was_dropped_loads_and_notes_it_again(
    client: Redis,
) -> None:
    older = RedisTaskStore(client)
    await submitted(older)
    (name,) = await names(client)
    await client.zadd(LIBRARIES, {name: 1})
    for store in (RedisTaskStore(client, dispatch_window=1), older):
        await a_life(store)  # the first brings a library of its own
    assert name in await names(client)
    now, _ = await client.time()
    assert await client.zscore(LIBRARIES, name) >= now - 60
    assert await calls(client, "function|delete") == 1
    await a_life(RedisTaskStore(client, dispatch_window=2))
    assert await calls(client, "function|delete") == 1


async def test_who_may_load_a_library_and_not_look_for_others_works(
    client: Redis, clean_redis_url: str
) -> None:
    rights = ["on", ">x", *UNTRUSTED, "+function|load"]
    await client.execute_command("ACL", "SETUSER", "plain", *rights)
    theirs = connect(clean_redis_url.replace("://", "://plain:x@", 1))
    try:
        await a_life(RedisTaskStore(theirs))
    finally:
        await theirs.aclose()
        await client.execute_command("ACL", "DELUSER", "plain")
    assert await calls(client, "fcall") == 3
