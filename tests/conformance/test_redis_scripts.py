"""Scripts on a real Redis that is full, read-only, or holds what they do not expect."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from orchestrator.errors import StoreFull, StoreReadOnly
from orchestrator.redis_keys import DELTAS, ENDED, WEBHOOKS, record, task_keys
from orchestrator.redis_scripts import RedisScripts, script_alone
from orchestrator.redis_store import RedisTaskStore
from orchestrator.task import AwaitedCall, TaskStatus
from orchestrator.task_record import LAPSED_NOTE
from tests.conformance.task_steps import claim, completed, running, submitted


async def test_a_store_that_first_meets_a_full_server_writes_whole_scripts_or_none(
    client: Redis,
) -> None:
    """On Redis 7; an older one cannot be asked to refuse a script whole."""
    if (await client.info("server"))["redis_version"].startswith("6."):
        pytest.skip("Redis 6 knows no script flags")
    text = "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[2], 'x')"
    scripts = RedisScripts(client, sources={"move": text})
    await client.set("old", "kept")
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFull):
            await scripts.run("move", ["old", "new"])
        assert await client.get("old") == "kept"
    finally:
        await client.config_set("maxmemory", 0)
    await client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        scripts = RedisScripts(client, sources={"move": text})
        with pytest.raises(StoreReadOnly):
            await scripts.run("move", ["old", "new"])
    finally:
        await client.execute_command("REPLICAOF", "NO", "ONE")
    assert await scripts.run("move", ["old", "new"]) == "OK"


async def test_a_server_that_was_restarted_is_given_each_script_once(
    client: Redis,
) -> None:
    scripts = RedisScripts(client, sources={"echo": "return ARGV[1]", "nil": "return"})

    async def loads() -> int:
        stats = await client.info("commandstats")
        return int(stats.get("cmdstat_script|load", {}).get("calls", 0))

    async def ask(n: int) -> str:
        return str(await scripts.run("echo", [], [n]))

    for _ in range(2):  # new, and after what a restart forgets
        await client.script_flush()
        before = await loads()
        first, *others = [asyncio.create_task(ask(n)) for n in range(300)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [str(n) for n in range(1, 300)]
        if await loads():  # Redis 6.2 does not count them apart
            assert await loads() - before == 2


async def test_a_broken_record_takes_no_other_tasks_doorbell_with_it(
    client: Redis,
) -> None:
    store = RedisTaskStore(client, resend_seconds=0.001)
    broken, sound = await submitted(store), await submitted(store)
    await client.set(record("default", broken.id), "no hash")
    bells: list[str] = []
    async with asyncio.timeout(5):
        while sound.id not in bells:
            bells += [bell.task_id for bell in (await store.sweep()).doorbells]
    assert broken.id not in bells


async def test_a_task_is_not_forgotten_for_an_ended_one_of_its_id(
    client: Redis,
) -> None:
    store = RedisTaskStore(client, result_ttl_seconds=0.001)
    ended = await submitted(store)
    await store.cancel("default", ended.id)
    await client.delete(*task_keys("default", ended.id))
    again = await submitted(store, id=ended.id)
    await asyncio.sleep(0.01)
    await store.sweep()
    assert (await store.get("default", again.id)).status is TaskStatus.PENDING
    assert await client.zscore(ENDED, f"default {ended.id}") is None


async def test_forgetting_looks_again_before_it_deletes(client: Redis) -> None:
    task = await submitted(RedisTaskStore(client))
    scripts = RedisScripts(client, sources={"forget": script_alone("forget")})
    keys = [*task_keys("default", task.id), ENDED, WEBHOOKS, DELTAS]
    for due in (None, 2**50):
        if due is not None:
            await client.zadd(ENDED, {f"default {task.id}": due})
        await scripts.run("forget", keys, [f"default {task.id}", task.id])
        assert await client.exists(record("default", task.id))
    await client.zadd(ENDED, {f"default {task.id}": 1})
    await scripts.run("forget", keys, [f"default {task.id}", task.id])
    assert not await client.exists(record("default", task.id))


async def test_a_look_at_a_waiting_task_that_another_sweep_has_settled_is_no_error(
    client: Redis,
) -> None:
    """It still waits, for a decision that is due at no time."""
    store = RedisTaskStore(client)
    lease = await running(store)
    soon = AwaitedCall(call_id="soon", tool="pay", timeout_seconds=0.001)
    ever = AwaitedCall(call_id="ever", tool="pay")
    await store.park(lease, [soon, ever], running_seconds=0)
    await asyncio.sleep(0.01)
    looks = [
        await store._run("ring", "default", lease.task_id, [LAPSED_NOTE])
        for _ in range(2)
    ]
    assert looks == [["rung", []], ["nothing", []]]
    task = await store.get("default", lease.task_id)
    assert [call.call_id for call in task.awaiting] == ["ever"]


async def test_results_are_not_read_to_be_forgotten(client: Redis) -> None:
    store = RedisTaskStore(client, result_ttl_seconds=0.001)
    tasks = [await submitted(store, tags=("red",)) for _ in range(60)]
    for task in tasks:
        lease = (await claim(store, task)).lease
        await store.finish(lease, completed(lease, "x" * 50_000), running_seconds=0)
    await asyncio.sleep(0.01)
    sent = "total_net_output_bytes"
    before = (await client.info("stats"))[sent]
    await store.sweep()
    assert (await client.info("stats"))[sent] - before < 50_000 * len(tasks) / 10
    left = [key async for key in client.scan_iter("celeriac:default:task*")]
    assert left == []
