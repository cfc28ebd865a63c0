"""Leases after a Redis that was away, and records of another release."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.errors import StoreFull
from orchestrator.journal import StepKind, StepStart
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_scripts import Begun, ScriptCall
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import (
    Creation,
    FirstStep,
    LeaseState,
    RefusalReason,
    TaskFilter,
)
from orchestrator.store_limits import RESEND_SECONDS
from orchestrator.task import Task, TaskStatus
from tests.conformance.task_steps import (
    AGENT,
    claim,
    submitted,
    sweep_until,
    try_claim,
    worker,
)

TINY = 0.02
RENEWAL_SECONDS = 0.6


@pytest.fixture
def store(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client, renewal_seconds=RENEWAL_SECONDS)


async def test_after_silence_holders_may_renew_before_leases_are_taken_back(
    store: RedisTaskStore,
) -> None:
    task = await submitted(store)
    lease = (await claim(store, task, lease_seconds=TINY)).lease
    await asyncio.sleep(2 * TINY)
    assert (await store.sweep()).recovered == 0
    assert await store.renew([lease], lease_seconds=TINY) == (LeaseState.HELD,)
    await sweep_until(store, task, TaskStatus.PENDING)


async def test_while_writes_are_refused_and_just_after_no_lease_is_taken_back(
    client: Redis, store: RedisTaskStore
) -> None:
    async with asyncio.timeout(10):
        for _ in range(3):  # the grace of the first sweep passes
            await store.sweep()
            await asyncio.sleep(RENEWAL_SECONDS / 2)
        lease = (await claim(store, await submitted(store), lease_seconds=TINY)).lease
        await client.config_set("maxmemory", 1)
        try:
            with pytest.raises(StoreFull):
                await store.sweep()
            await asyncio.sleep(2 * TINY)
        finally:
            await client.config_set("maxmemory", 0)
        assert (await store.sweep()).recovered == 0
        task = await store.get(lease.tenant, lease.task_id)
        assert task.status is TaskStatus.RUNNING


async def test_a_worker_is_withdrawn_from_a_full_redis(client: Redis) -> None:
    directory = RedisAgentDirectory(client)
    await directory.announce(worker("a"), ttl_seconds=30)
    await client.config_set("maxmemory", 1)
    try:
        await directory.withdraw(worker("a").id)
    finally:
        await client.config_set("maxmemory", 0)
    assert await directory.worker_ids() == ()
    assert await client.hgetall(redis_keys.SLOTS) == {}


async def test_what_a_redis_took_before_it_was_full_is_told(
    client: Redis, store: RedisTaskStore
) -> None:
    tasks = [Task(agent_name=AGENT, input={"text": "x" * 20_000}) for _ in range(500)]
    answers: list[Creation | Exception] = []
    used = int((await client.info("memory"))["used_memory"])
    await client.config_set("maxmemory", used + 4_000_000)
    try:
        with pytest.raises(StoreFull):
            await store.create(tasks, answers=answers)
    finally:
        await client.config_set("maxmemory", 0)
    told = {made.task.id for made in answers if isinstance(made, Creation)}
    page = await store.list("default", TaskFilter(), limit=1000)
    assert 0 < len(told) < len(tasks)
    assert {task.id for task in page.tasks} == told


async def test_what_was_taken_before_a_batch_that_cannot_be_sent_is_told(
    store: RedisTaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [Task(agent_name=AGENT) for _ in range(250)]
    answers: list[Creation | Exception] = []
    begin, calls = store._scripts.begin, iter(range(3))

    def begin_once(call: ScriptCall) -> Begun:
        if next(calls):
            raise ValueError("it cannot be written")
        return begin(call)

    monkeypatch.setattr(store._scripts, "begin", begin_once)
    with pytest.raises(ValueError, match="cannot be written"):
        await store.create(tasks, answers=answers)
    told = {made.task.id for made in answers if isinstance(made, Creation)}
    page = await store.list("default", TaskFilter(), limit=1000)
    assert len(told) == 100
    assert {task.id for task in page.tasks} == told


async def test_a_record_of_another_release_is_not_claimed(
    client: Redis, store: RedisTaskStore
) -> None:
    task = await submitted(store, expires_seconds=0.001)
    await client.hset(redis_keys.record(task.tenant, task.id), "schema", "2")
    await asyncio.sleep(0.005)
    await store.sweep()
    assert await try_claim(store, task) is RefusalReason.UNKNOWN_SCHEMA
    left = await store.get(task.tenant, task.id)
    assert (left.status, left.attempt) == (TaskStatus.PENDING, 0)
    # Nor is it looked at again and again for a limit that is others' to judge.
    look_at = await client.zscore(redis_keys.DUE, f"default {task.id}")
    seconds, _ = await client.time()
    assert look_at / 1000 - seconds > RESEND_SECONDS / 2


@pytest.mark.parametrize("entry", ["% of a later release", '1 2 {"key": "only"}'])
async def test_a_journal_that_cannot_be_read_is_left_to_those_who_can(
    client: Redis, store: RedisTaskStore, entry: str
) -> None:
    """Nobody is charged with a crash, and the next who asks may be of that release."""
    task = await submitted(store)
    journal = redis_keys.journal(task.tenant, task.id)
    await client.hset(journal, "later", entry)
    begun = FirstStep(StepStart(key="s", kind=StepKind.COMPLETION), {AGENT})
    refused = await try_claim(store, task, first=begun)
    assert refused is RefusalReason.UNKNOWN_SCHEMA
    left = await store.get(task.tenant, task.id)
    assert (left.status, left.attempt, left.crashes) == (TaskStatus.PENDING, 1, 0)
    assert "another release" in (left.pending_reason or "")
    await client.hdel(journal, "later")
    await client.hset(redis_keys.record(task.tenant, task.id), "due_ms", "0")
    again = await claim(store, task)
    assert (again.task.attempt, again.starts) == (2, ())
