"""A Redis that came up with an older file gives out the same fence again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.errors import LeaseLost
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import LeaseState
from orchestrator.task import TaskStatus
from tests.conformance.task_steps import FENCED_WRITES, claim, completed, submitted

STEP = Step(key="completion:1", kind=StepKind.COMPLETION, outcome={"content": "hi"})
START = StepStart(key="completion:2", kind=StepKind.COMPLETION)
PROGRESS = NewEvent(type=EventType.PROGRESS, data={})


@pytest.fixture
async def raw(clean_redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(clean_redis_url) as raw:
        yield raw


async def kept(raw: Redis) -> dict[bytes, bytes]:
    return {key: await raw.dump(key) for key in await raw.keys()}


async def go_back_to(raw: Redis, older: dict[bytes, bytes]) -> None:
    await raw.flushdb()
    for key, value in older.items():
        await raw.restore(key, 0, value)


async def test_the_first_holder_of_a_fence_that_is_given_out_again_writes_no_more(
    client: Redis, raw: Redis
) -> None:
    store = RedisTaskStore(client)
    task = await submitted(store)
    older = await kept(raw)
    first = (await claim(store, task, worker="host:1:1")).lease
    await store.start_step(first, StepStart(key=STEP.key, kind=StepKind.COMPLETION))
    await go_back_to(raw, older)
    second = (await claim(store, task, worker="host:2:2")).lease
    assert second.fence == first.fence
    record = redis_keys.record(task.tenant, task.id)
    before = await client.hgetall(record)
    for write in FENCED_WRITES:
        with pytest.raises(LeaseLost):
            await write(store, first)
    await store.surrender([first], blamed=first)
    assert await client.hgetall(record) == before
    states = await store.renew([first, second], lease_seconds=30)
    assert states == (LeaseState.LOST, LeaseState.HELD)
    assert not (await store.start_step(second, START)).is_unknown
    await store.record_step(second, STEP, [PROGRESS], then=START)
    await store.finish(second, completed(second), running_seconds=1)
    with pytest.raises(LeaseLost):
        await store.finish(first, completed(first), running_seconds=1)
    ended = await store.get(task.tenant, task.id)
    assert (ended.status, ended.attempt) == (TaskStatus.COMPLETED, 1)
