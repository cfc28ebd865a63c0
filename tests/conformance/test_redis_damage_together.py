"""Damage of one task is no other one's trouble, though one call serves both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.errors import StoreUnavailable, UnreadableRecord
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Creation, Ending, LastStep, Lease
from orchestrator.task import Task
from tests.conformance.task_steps import (
    WORKER,
    completed,
    failed,
    submitted,
    try_claim,
)
from tests.conformance.test_last_steps import LAST

BRIEF_SECONDS = 0.2
"""A lease that is not worth asking again for."""
LISTING = "celeriac:default:tasks:status:"
METRICS = "celeriac:default:metrics"
NO_TEXT = b"\xff\xfe"
Damage = Callable[[Redis, str], Awaitable[Any]]


def field(name: str, value: str | bytes) -> Damage:
    return lambda client, key: client.hset(key, name, value)


def without(name: str) -> Damage:
    return lambda client, key: client.hdel(key, name)


def foreign(part: str) -> Damage:
    async def write(client: Redis, key: str) -> None:
        await client.delete(key + part)
        await client.set(key + part, "foreign")

    return write


DAMAGES: dict[str, Damage] = {
    "record": foreign(""),
    "log": foreign(":events"),
    "journal": foreign(":journal"),
    "followers": foreign(":then"),
    "field that is no text": field("more", NO_TEXT),
    "ordinal": without("ordinal"),
    "ordinal that is a word": field("ordinal", "first"),
    "ordinal that is no number": field("ordinal", "nan"),
    "ordinal with a space": field("ordinal", " 1"),
    "ordinal that is too large": field("ordinal", "9" * 400),
    "agent": without("agent"),
    "queue": without("queue"),
    "instant": field("created_ms", "never"),
    "status": field("status", "odd"),
    "attempt": field("attempt", "x"),
}


async def together(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def ended(
    store: RedisTaskStore, leases: Iterable[Lease], last: LastStep | None = None
) -> list[Any]:
    return await together(
        store.finish(lease, completed(lease), running_seconds=0, last=last)
        for lease in leases
    )


async def claimed(store: RedisTaskStore, tasks: Iterable[Task]) -> list[Any]:
    return await together(
        try_claim(store, task, lease_seconds=BRIEF_SECONDS) for task in tasks
    )


async def places(client: Redis, key: str) -> set[str]:
    return {member.split()[-1] for member in await client.zrange(key, 0, -1)}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
async def test_neighbours_of_a_damaged_task_begin_as_ever(
    client: Redis, damage: Damage
) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(5)]
    others = {task.id for task in tasks} - {tasks[2].id}
    await damage(client, redis_keys.record("default", tasks[2].id))
    claims = await claimed(store, tasks)
    assert [type(each) for each in claims if each is not claims[2]] == [Claim] * 4
    assert await places(client, f"{LISTING}running") >= others
    assert await places(client, redis_keys.LEASES) >= others
    assert not await places(client, f"{LISTING}pending") & others
    assert not await places(client, redis_keys.DUE) & others


@pytest.mark.parametrize("last", [None, LAST], ids=["bare", "with a step"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
async def test_neighbours_of_a_damaged_task_end_as_ever(
    client: Redis, damage: Damage, last: LastStep | None
) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(5)]
    others = {task.id for task in tasks} - {tasks[2].id}
    leases = [claim.lease for claim in await claimed(store, tasks)]
    await damage(client, redis_keys.record("default", tasks[2].id))
    answers = await ended(store, leases, last)
    assert [each for place, each in enumerate(answers) if place != 2] == [()] * 4
    assert await places(client, f"{LISTING}completed") >= others
    assert await places(client, redis_keys.ENDED) >= others
    assert not await places(client, f"{LISTING}running") & others
    assert not await places(client, redis_keys.LEASES) & others
    health = await client.hgetall(redis_keys.health("researcher"))
    assert int(health["successes"]) >= len(others)


async def test_a_task_without_its_ordinal_is_left_as_it_was(client: Redis) -> None:
    store = RedisTaskStore(client)
    task = await submitted(store)
    record = redis_keys.record("default", task.id)
    await client.hdel(record, "ordinal")
    before = await client.hgetall(record)
    await claimed(store, [task])
    assert await client.hgetall(record) == before
    assert await places(client, redis_keys.LEASES) == set()


@pytest.mark.parametrize("damage", [without("agent"), field("agent", NO_TEXT)])
async def test_a_run_that_has_lost_its_agent_is_left_as_it_was(
    client: Redis, damage: Damage
) -> None:
    """Half an end would be none; and its counts would make all others unreadable."""
    store = RedisTaskStore(client)
    task = await submitted(store)
    (claim,) = await claimed(store, [task])
    await damage(client, redis_keys.record("default", task.id))
    (answer,) = await ended(store, [claim.lease])
    assert isinstance(answer, StoreUnavailable)
    assert await places(client, f"{LISTING}running") == {task.id}
    assert await places(client, redis_keys.LEASES) == {task.id}
    counters = await store.counters("default")
    assert counters.by_labels("tasks", 2) == {("running", "researcher"): 1}


@pytest.mark.parametrize("end", [completed, lambda _: failed()], ids=["plain", "other"])
@pytest.mark.parametrize("name", ["ordinal", "agent"])
async def test_an_end_that_is_refused_leaves_no_last_step(
    client: Redis, name: str, end: Callable[[Lease], Ending]
) -> None:
    """Its events would stand in the way of the next one, and cost the log."""
    store = RedisTaskStore(client)
    task = await submitted(store)
    (claim,) = await claimed(store, [task])
    record = redis_keys.record("default", task.id)
    await client.hdel(record, name)
    before = await kept(client, record)
    with pytest.raises(StoreUnavailable):
        await store.finish(claim.lease, end(claim.lease), running_seconds=0, last=LAST)
    assert await kept(client, record) == before
    assert await client.hgetall(redis_keys.health("researcher")) == {}


async def kept(client: Redis, record: str) -> list[Any]:
    return [
        await client.hgetall(record),
        await client.hgetall(f"{record}:journal"),
        await client.xrange(f"{record}:events"),
    ]


@pytest.mark.parametrize("key", [METRICS, "celeriac:_fleet:tenants"])
async def test_what_cannot_be_counted_keeps_nobody_from_his_task(
    client: Redis, key: str
) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(3)]
    await client.delete(key)
    await client.set(key, "foreign")
    claims = await claimed(store, tasks)
    assert [type(each) for each in claims] == [Claim] * 3
    assert await ended(store, [each.lease for each in claims]) == [()] * 3


@pytest.mark.parametrize("number", ["-1e300", "-9e18", "-inf", "nan"])
async def test_a_damaged_number_takes_no_other_out_of_the_counts(
    client: Redis, number: str
) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(5)]
    damaged = redis_keys.record("default", tasks[2].id)
    for task in tasks:
        await client.hset(redis_keys.record("default", task.id), "due_ms", "1")
    await client.hset(damaged, "due_ms", number)
    claims = await claimed(store, tasks)
    whole = [each for each in claims if isinstance(each, Claim)]
    assert int(await client.hget(METRICS, "wait sum researcher")) > 4e12
    await client.hset(damaged, mapping={"created_ms": number, "running_ms": "1e300"})
    await together(
        store.finish(each.lease, completed(each.lease), running_seconds=1)
        for each in whole
    )
    counts = await client.hgetall(METRICS)
    assert int(counts["running_ms researcher"]) >= 4000
    assert "ended completed sum researcher" in counts


@pytest.mark.parametrize(
    "damage",
    [
        foreign(""),
        field("priority", "x"),
        field("priority", "-5"),
        field("queue", "other"),
        without("queue"),
        without("agent"),
    ],
)
async def test_a_damaged_task_takes_no_other_out_of_the_line(
    client: Redis, damage: Damage
) -> None:
    store = RedisTaskStore(client, dispatch_window=4)
    tasks = [await submitted(store) for _ in range(9)]
    rung, ready = (f"celeriac:_fleet:{kind}:celeriac" for kind in ("rung", "ready"))
    assert len(await places(client, ready)) == 5
    await damage(client, redis_keys.record("default", tasks[5].id))
    claims = await claimed(store, tasks[:4])
    assert [type(each) for each in claims] == [Claim] * 4
    whole = [tasks[place].id for place in (4, 6, 7, 8)]
    assert await places(client, rung) | await places(client, ready) >= set(whole)
    told = [bell.task_id for each in claims for bell in each.doorbells]
    assert len(told) >= 3
    # Claims of one moment may be made in any order; the messages' numbers tell it.
    assert sorted(told) == sorted(whole[: len(told)])
    members = [redis_keys.member("default", each) for each in whole[: len(told)]]
    numbers = await client.zmscore(rung, members)
    assert numbers == sorted(numbers)


async def test_a_damaged_suspect_keeps_nobody_from_his_task(client: Redis) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(3)]
    gone, line = await submitted(store), "celeriac:_fleet:suspects:celeriac"
    await client.zadd(line, {redis_keys.member("default", gone.id): 1})
    await foreign("")(client, redis_keys.record("default", gone.id))
    claims = await claimed(store, tasks)
    assert [type(each) for each in claims] == [Claim] * 3
    assert await client.zcard(line) == 0


NO_NAMES = [NO_TEXT, b"\xff \xff", "foreign", "a b c", " "]


@pytest.mark.parametrize("member", NO_NAMES)
async def test_what_is_no_name_of_ours_among_the_suspects_keeps_none_in_line(
    client: Redis, member: str | bytes
) -> None:
    store = RedisTaskStore(client, dispatch_window=2)
    tasks = [await submitted(store) for _ in range(5)]
    line = "celeriac:_fleet:suspects:celeriac"
    await client.zadd(line, {member: 1})
    claims = await claimed(store, tasks[:2])
    bells = [bell.task_id for each in claims for bell in each.doorbells]
    assert sorted(bells) == sorted(task.id for task in tasks[2:4])
    assert await client.zcard(line) == 0


@pytest.mark.parametrize("member", [*NO_NAMES, "default damaged"])
async def test_what_is_no_name_of_ours_among_the_messages_takes_no_room_for_ever(
    client: Redis, member: str | bytes
) -> None:
    store = RedisTaskStore(client, dispatch_window=2)
    first, *others = [await submitted(store) for _ in range(4)]
    rung = "celeriac:_fleet:rung:celeriac"
    await client.zadd(rung, {member: 0})
    await foreign("")(client, redis_keys.record("default", "damaged"))
    await claimed(store, [first])
    report = await store.sweep()
    assert await client.zscore(rung, member) is None
    assert [bell.task_id for bell in report.doorbells] == [others[1].id]


@pytest.mark.parametrize("entry", [*NO_NAMES, "default damaged 1"])
async def test_what_is_no_name_of_ours_among_a_workers_runs_keeps_it_from_no_suspect(
    client: Redis, entry: str | bytes
) -> None:
    store = RedisTaskStore(client)
    task = await submitted(store)
    record = redis_keys.record("default", task.id)
    await client.hset(record, mapping={"suspect": "2", "company": "1"})
    await foreign("")(client, redis_keys.record("default", "damaged"))
    aboard = f"celeriac:_fleet:primes:{WORKER}"
    await client.sadd(aboard, entry)
    assert [type(each) for each in await claimed(store, [task])] == [Claim]
    assert await client.smembers(aboard) == {f"default {task.id} 1"}


@pytest.mark.parametrize("place", [0, 3])
async def test_what_is_submitted_beside_a_task_that_cannot_be_accepted_begins(
    client: Redis, place: int
) -> None:
    store = RedisTaskStore(client)
    tasks = [
        Task(id=f"task-{each}", agent_name="researcher", idempotency_key=f"key-{each}")
        for each in range(5)
    ]
    await client.rpush(redis_keys.idempotency("default", f"key-{place}"), "foreign")
    with pytest.raises(StoreUnavailable):
        await store.create(tasks)
    others = {task.id for task in tasks} - {tasks[place].id}
    for key in (redis_keys.DUE, f"{LISTING}pending", "celeriac:_fleet:rung:celeriac"):
        assert await places(client, key) == others
    claims = await claimed(store, [task for task in tasks if task.id in others])
    assert [type(each) for each in claims] == [Claim] * 4


async def test_an_earlier_task_that_cannot_be_read_is_its_own_submitters_error(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    tasks = [Task(id=f"task-{each}", agent_name="researcher") for each in range(5)]
    await store.create([tasks[2]])
    await client.hset(redis_keys.record("default", "task-2"), "failure", "[")
    answers = await store.create(tasks)
    made = [each for each in answers if isinstance(each, Creation)]
    assert [each.task.id for each in made] == ["task-0", "task-1", "task-3", "task-4"]
    assert isinstance(answers[2], UnreadableRecord)
