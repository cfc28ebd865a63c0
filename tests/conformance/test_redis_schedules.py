"""Schedules on Redis: what another release has left there."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.errors import StoreUnfit
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.schedule import DueSchedule, Schedule
from orchestrator.scheduler import submit_due
from orchestrator.store import TaskFilter
from orchestrator.task import Task


async def test_a_schedule_of_another_release_stops_neither_sweep_nor_schedules(
    clean_redis_url: str,
) -> None:
    client = connect(clean_redis_url)
    store = RedisTaskStore(client)
    mine = Schedule(id="mine", cron="* * * * * *", task=Task(agent_name="a"))
    await store.put_schedule(mine)
    text = await client.hget(redis_keys.schedules("default"), "mine")
    foreign = text.replace('"id":"mine"', '"id":"theirs","of_tomorrow":1')
    await client.hset(redis_keys.schedules("default"), "theirs", foreign)
    await client.zadd(redis_keys.SCHEDULES, {"default theirs": 1})
    found: tuple[DueSchedule, ...] = ()
    while not found:
        await asyncio.sleep(0.05)
        found = await store.due_schedules()
    assert [due.schedule.id for due in found] == ["mine"]
    assert [each.id for each in await store.schedules("default")] == ["mine"]
    await client.aclose()


@pytest.mark.parametrize("score", [1, float("-inf"), -1e300])
async def test_a_schedule_that_cannot_be_read_stops_no_other(
    client: Redis, score: float
) -> None:
    store = RedisTaskStore(client)
    mine = Schedule(id="mine", cron="* * * * * *", task=Task(agent_name="a"))
    await store.put_schedule(mine)
    text = b"\xff" if score == 1 else "{}"
    await client.hset(redis_keys.schedules("default"), "other", text)
    await client.zadd(redis_keys.SCHEDULES, {"default other": score})
    found: tuple[DueSchedule, ...] = ()
    async with asyncio.timeout(30):
        while not found:
            await asyncio.sleep(0.05)
            found = await store.due_schedules()
    assert [due.schedule.id for due in found] == ["mine"]


async def test_many_schedules_that_cannot_be_read_hide_no_other(client: Redis) -> None:
    store = RedisTaskStore(client)
    mine = Schedule(id="mine", cron="* * * * * *", task=Task(agent_name="a"))
    await store.put_schedule(mine)
    others = {f"other{number}": "{}" for number in range(200)}
    await client.hset(redis_keys.schedules("default"), mapping=others)
    ticks = {f"default {name}": 1 for name in others}
    await client.zadd(redis_keys.SCHEDULES, ticks | {"default forgotten": 1})
    async with asyncio.timeout(10):
        await due(store, "mine")


async def test_schedules_that_cannot_be_read_take_no_places_of_others(
    client: Redis,
) -> None:
    """Else each sweep would serve as many fewer, and fall behind."""
    store = RedisTaskStore(client)
    for name in ("one", "two", "three"):
        mine = Schedule(id=name, cron="* * * * * *", task=Task(agent_name="a"))
        await store.put_schedule(mine)
    others = {f"other{number}": "{}" for number in range(99)}
    await client.hset(redis_keys.schedules("default"), mapping=others)
    ticks = {f"default {name}": 1 for name in others}
    await client.zadd(redis_keys.SCHEDULES, ticks)
    async with asyncio.timeout(10):
        await due(store, "one", "two", "three")
    assert len(await store.due_schedules(limit=2)) == 2


async def due(store: RedisTaskStore, *names: str) -> None:
    while {each.schedule.id for each in await store.due_schedules()} != {*names}:
        await asyncio.sleep(0.05)


async def test_what_stands_in_the_way_of_one_schedule_stops_no_other(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    task = Task(agent_name="a")
    talk = task.model_copy(update={"conversation_id": "c"})
    await store.put_schedule(Schedule(id="a", cron="* * * * * *", task=talk))
    await store.put_schedule(Schedule(id="b", cron="* * * * * *", task=task))
    await client.set(redis_keys.turns("default", "c"), "foreign")
    await due(store, "a", "b")
    before = {each.id: each.next_at for each in await store.schedules("default")}
    await submit_due(store)
    page = await store.list("default", TaskFilter())
    assert [task.metadata["schedule"] for task in page.tasks] == ["b"]
    # One that stayed due would come first for ever, and many fill the page of due ones.
    after = {each.id: each.next_at for each in await store.schedules("default")}
    assert all(after[name] > at for name, at in before.items())


async def test_a_tick_waits_for_a_server_that_is_fit_again(client: Redis) -> None:
    store = RedisTaskStore(client)
    task = Task(agent_name="a")
    made = await store.put_schedule(Schedule(id="a", cron="* * * * * *", task=task))
    await due(store, "a")
    await client.set(redis_keys.UNFIT, "it evicts")
    with pytest.raises(StoreUnfit):
        await submit_due(store)
    assert await store.schedules("default") == (made,)
    await client.delete(redis_keys.UNFIT)
    assert len((await submit_due(store)).doorbells) == 1


async def put_due(store: RedisTaskStore, client: Redis, amount: int) -> None:
    for number in range(amount):
        task = Task(agent_name="a")
        await store.put_schedule(Schedule(id=f"s{number}", cron="0 0 1 1 *", task=task))
        await client.zadd(redis_keys.SCHEDULES, {f"default s{number}": 1})


async def test_of_schedulers_at_the_same_schedules_one_alone_goes_on(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    await put_due(store, client, 101)
    await client.config_resetstat()
    done = await asyncio.gather(*(submit_due(store) for _ in range(4)))
    assert sorted(each.more for each in done) == [False, False, False, True]
    stats = await client.info("commandstats")
    names = ("cmdstat_fcall", "cmdstat_evalsha")
    calls = sum(stats.get(name, {}).get("calls", 0) for name in names)
    assert calls < 2 * 2 * 101  # each schedule's by one of them, not by all four


@pytest.mark.parametrize("tick", [0.5, -1.5, 1e-05])
async def test_a_tick_that_is_no_whole_number_keeps_no_other_waiting(
    client: Redis, tick: float
) -> None:
    store = RedisTaskStore(client)
    await put_due(store, client, 2)
    await client.zadd(redis_keys.SCHEDULES, {"default s0": tick})
    assert len((await submit_due(store)).doorbells) == 2
    assert await store.due_schedules() == ()


async def test_many_schedules_of_one_moment_are_submitted_a_hundred_at_a_time(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    await put_due(store, client, 101)
    assert (await submit_due(store)).more
    assert not (await submit_due(store)).more
    assert await store.due_schedules() == ()
