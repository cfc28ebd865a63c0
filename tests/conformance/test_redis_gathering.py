"""What a call for many tasks gathers is written, once, and before who has to see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from orchestrator import redis_keys
from orchestrator.errors import StoreUnavailable
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim
from orchestrator.store_limits import RESEND_SECONDS
from orchestrator.task import Task
from tests.conformance.task_steps import completed, submitted, try_claim

LISTING = "celeriac:default:tasks:status:"
RUNG = "celeriac:_fleet:rung:celeriac"
READY = "celeriac:_fleet:ready:celeriac"
FLOW = "celeriac:_fleet:flow"
METRICS = "celeriac:default:metrics"


async def together(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def claimed(store: RedisTaskStore, tasks: Iterable[Task]) -> list[Any]:
    return await together(try_claim(store, task, lease_seconds=0.2) for task in tasks)


async def ended(store: RedisTaskStore, claims: Iterable[Claim]) -> list[Any]:
    return await together(
        store.finish(each.lease, completed(each.lease), running_seconds=0.5)
        for each in claims
    )


async def calls_of(client: Redis, *commands: str) -> int:
    stats = await client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in commands)


async def test_what_many_share_is_written_once(client: Redis) -> None:
    store = RedisTaskStore(client)
    stranger = await submitted(store, agent_name="stranger")
    tasks = [await submitted(store) for _ in range(40)]
    before = await calls_of(client, "zadd", "zrem", "hincrby")
    claims = await claimed(store, [tasks[0], stranger, *tasks[1:]])
    assert claims.pop(1) == "unserved"
    assert await calls_of(client, "zadd", "zrem", "hincrby") - before < 2 * len(tasks)
    before = await calls_of(client, "zadd", "zrem", "hincrby")
    assert await ended(store, claims) == [()] * len(tasks)
    assert await calls_of(client, "zadd", "zrem", "hincrby") - before < 2 * len(tasks)


async def test_what_many_count_is_counted(client: Redis) -> None:
    store = RedisTaskStore(client)
    claims = await claimed(store, [await submitted(store) for _ in range(10)])
    counts = await client.hgetall(METRICS)
    assert counts["tasks running researcher"] == "10"
    assert "tasks pending researcher" not in counts
    assert in_buckets(counts, "wait") == 10
    await ended(store, claims)
    counts = await client.hgetall(METRICS)
    assert "tasks running researcher" not in counts
    assert in_buckets(counts, "ended completed") == 10
    assert counts["running_ms researcher"] == "5000"
    assert (await client.hgetall(redis_keys.health("researcher")))["successes"] == "10"


def in_buckets(counts: dict[str, str], name: str) -> int:
    parts = [(field.split(), int(value)) for field, value in counts.items()]
    words = name.split()
    return sum(
        value
        for field, value in parts
        if field[: len(words)] == words and field[len(words)] != "sum"
    )


async def test_who_follows_one_that_expired_has_the_place_that_its_message_had(
    client: Redis,
) -> None:
    store = RedisTaskStore(client, dispatch_window=1)
    first = await submitted(store)
    follower = await submitted(store, after=(first.id,))
    record = redis_keys.record("default", first.id)
    await client.hset(record, "deadline_at_ms", "1")
    assert await claimed(store, [first]) == ["expired"]
    # Who was refused has no doorbells to send: the next sweep has it rung.
    due = await client.zscore(redis_keys.DUE, f"default {follower.id}")
    assert due is not None
    assert due <= time.time() * 1000
    assert await client.zcard(READY) == 0


async def test_an_unknown_task_is_due_for_nothing(client: Redis) -> None:
    store = RedisTaskStore(client)
    unknown = Task(id="task-none", agent_name="researcher")
    await client.zadd(redis_keys.DUE, {"default task-none": 1})
    other = await submitted(store)
    assert (await claimed(store, [unknown, other]))[0] == "unknown"
    assert await client.zcard(redis_keys.DUE) == 0


async def test_a_message_for_a_running_task_is_outstanding_no_more(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    task = await submitted(store)
    await claimed(store, [task])
    await client.zadd(RUNG, {f"default {task.id}": 7})
    assert await claimed(store, [task]) == ["leased"]
    assert await client.zcard(RUNG) == 0


async def test_messages_that_come_out_of_order_do_not_make_the_newest_older(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(6)]
    scores = [await client.zscore(RUNG, f"default {task.id}") for task in tasks]
    band = int(scores[0]) >> 48
    await claimed(store, [tasks[4], tasks[3], tasks[5], tasks[2]])
    assert float(await client.hget(FLOW, f"celeriac {band}")) == scores[5]
    await claimed(store, [tasks[1], tasks[0]])
    assert float(await client.hget(FLOW, f"celeriac {band}")) == scores[5]


async def test_a_queue_that_moves_is_not_probed_any_more(client: Redis) -> None:
    store = RedisTaskStore(client)
    first, second = await submitted(store), await submitted(store)
    await claimed(store, [first])
    await client.hset(FLOW, "celeriac probes", "3")
    await claimed(store, [second])
    assert await client.hget(FLOW, "celeriac probes") == "0"


async def test_what_cannot_be_listed_is_told_and_all_else_is_written(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(4)]
    await client.set(f"{LISTING}running", "foreign")
    claims = await claimed(store, tasks)
    assert [type(each) for each in claims] == [StoreUnavailable] * 4
    assert await client.zcard(redis_keys.LEASES) == 4
    assert await client.zcard(f"{LISTING}pending") == 0
    assert (await client.hgetall(METRICS))["tasks running researcher"] == "4"


async def test_who_leaves_the_line_is_looked_at_soon(client: Redis) -> None:
    store = RedisTaskStore(client, dispatch_window=1)
    first, second = await submitted(store), await submitted(store)
    assert await client.zcard(READY) == 1
    await claimed(store, [first])
    due = await client.zscore(redis_keys.DUE, f"default {second.id}")
    assert due is not None
    assert due <= (time.time() + RESEND_SECONDS) * 1000


async def test_a_turn_that_is_interrupted_in_the_call_that_made_it_has_ended(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    turns = [
        Task(
            id=f"task-{rule}",
            agent_name="researcher",
            conversation_id="talk",
            when_busy=rule,
        )
        for rule in ("enqueue", "interrupt")
    ]
    await store.create(turns)
    assert await client.zrange(f"{LISTING}pending", 0, -1) == ["task-interrupt"]
    assert await client.zrange(f"{LISTING}cancelled", 0, -1) == ["task-enqueue"]
    assert await client.zrange(redis_keys.DUE, 0, -1) == ["default task-interrupt"]
    assert await client.zrange(redis_keys.ENDED, 0, -1) == ["default task-enqueue"]


async def test_claims_after_the_library_was_flushed_are_served(client: Redis) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(6)]
    for flush in ("SCRIPT FLUSH", "FUNCTION FLUSH"):
        with suppress(ResponseError):  # of a server that keeps no functions
            await client.execute_command(flush)
    assert [type(each) for each in await claimed(store, tasks)] == [Claim] * 6
