"""A Redis that was fit when the workers began and is so no longer (B6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import pytest
from redis.asyncio import Connection, Redis

from orchestrator import redis_alarm
from orchestrator.errors import StoreReadOnly, StoreUnfit
from orchestrator.redis_connection import connect
from orchestrator.redis_keys import UNFIT
from orchestrator.redis_store import RedisTaskStore
from orchestrator.task import Task
from tests.conformance.task_steps import AGENT, claim, submit, submitted

EVICTING = ("allkeys-lru", "allkeys-lfu", "volatile-ttl", "volatile-random")


@pytest.fixture
async def client(clean_redis_url: str) -> AsyncIterator[Redis]:
    async with AsyncExitStack() as closing:
        client = connect(clean_redis_url)
        closing.push_async_callback(client.aclose)
        for name, value in (("maxmemory-policy", "noeviction"), ("appendonly", "no")):
            closing.push_async_callback(client.config_set, name, value)
        yield client


@asynccontextmanager
async def replica(client: Redis) -> AsyncIterator[None]:
    await client.execute_command("REPLICAOF", "127.0.0.1", "9")
    try:
        yield
    finally:
        await client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("policy", EVICTING)
async def test_a_policy_that_evicts_refuses_new_tasks_until_it_is_gone(
    client: Redis, policy: str
) -> None:
    store = RedisTaskStore(client)
    before = await submitted(store)
    assert (await store.sweep()).alarms == ()
    await client.config_set("maxmemory-policy", policy)
    (alarm,) = (await RedisTaskStore(client).sweep()).alarms
    assert f"evicts keys (maxmemory-policy {policy})" in alarm
    (refused,) = await store.create([Task(agent_name=AGENT)])
    assert isinstance(refused, StoreUnfit)
    assert f"{policy}); set maxmemory-policy noeviction" in str(refused)
    assert await client.ttl(UNFIT) > 0
    assert (await claim(store, before)).task.id == before.id
    await client.config_set("maxmemory-policy", "noeviction")
    assert (await RedisTaskStore(client).sweep()).alarms == ()
    await submitted(store)


async def test_a_repeated_submit_is_answered_although_new_ones_are_refused(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    before = await submitted(store)
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await RedisTaskStore(client).sweep()
    (again,) = await store.create([before])
    assert not isinstance(again, Exception)
    assert not again.created


async def test_a_server_that_becomes_a_replica_is_named_before_a_write(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    await submitted(store)
    async with replica(client):
        assert [
            "replica" in alarm for alarm in await redis_alarm.RedisAlarm(client).look()
        ] == [True]
        with pytest.raises(StoreReadOnly):
            await store.sweep()
        with pytest.raises(StoreReadOnly):
            await submit(store)


async def test_an_append_only_file_that_is_given_up_raises_an_alarm(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_alarm, "LOOK_SECONDS", 0.0)
    store = RedisTaskStore(client)
    assert (await store.sweep()).alarms == ()
    await client.config_set("appendonly", "yes")
    assert (await store.sweep()).alarms == ()
    await client.config_set("appendonly", "no")
    (alarm,) = (await store.sweep()).alarms
    assert "append-only file" in alarm
    await submitted(store)


class Answering:
    """A client of a server that tells this of itself."""

    connection_pool = SimpleNamespace(
        connection_kwargs={"host": "h", "port": 1}, connection_class=Connection
    )

    def __init__(self) -> None:
        self.facts: dict[str, object] = {"role": "master"}

    async def info(self) -> dict[str, object]:
        return self.facts

    async def delete(self, _: str) -> None:
        pass


async def test_a_server_that_still_reads_its_append_only_file_has_not_given_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meanwhile it says `aof_enabled:0`."""
    monkeypatch.setattr(redis_alarm, "LOOK_SECONDS", 0.0)
    server = Answering()
    alarm = redis_alarm.RedisAlarm(server)
    server.facts |= {"loading": 0, "aof_enabled": 1}
    assert await alarm.look() == ()
    server.facts |= {"loading": 1, "aof_enabled": 0}
    assert await alarm.look() == ()
    server.facts |= {"loading": 0}
    (told,) = await alarm.look()
    assert "append-only file" in told


async def test_the_server_is_asked_once_in_a_while(client: Redis) -> None:
    store = RedisTaskStore(client)
    before = (await client.info("commandstats"))["cmdstat_info"]["calls"]
    for _ in range(10):
        await store.sweep()
    after = (await client.info("commandstats"))["cmdstat_info"]["calls"]
    assert after - before == 2
