"""Where broker and store are one Redis, scripts ring: the same messages as Celery's."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
import redis

from orchestrator.doorbell_message import doorbell_message
from orchestrator.queue import CeleryTaskQueue
from orchestrator.redis_connection import connect as connect_redis
from orchestrator.redis_store import RedisTaskStore
from orchestrator.settings import load_settings
from orchestrator.store import Doorbell, RefusalReason
from orchestrator.task import TaskStatus
from orchestrator.wiring import connect
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    submit,
    submitted,
    sweep_until,
    try_claim,
    until,
)
from workers.task_message import parse_task_call

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def taken(url: str, queue: str = "celeriac") -> dict[str, list[bytes]]:
    keys = [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]
    with redis.Redis.from_url(url) as client:
        found = {key: client.lrange(key, 0, -1) for key in keys}
        client.delete(*keys)
        return found


def comparable(raw: bytes) -> dict[str, Any]:
    message = json.loads(raw)
    call = parse_task_call(raw, accept=None)
    message["body"] = (call.args, call.kwargs)
    for place, field in (
        ("headers", "origin"),
        ("properties", "reply_to"),
        ("properties", "delivery_tag"),
        ("properties", "body_encoding"),
        ("properties", "argsrepr"),
        ("properties", "kwargsrepr"),
    ):
        message[place].pop(field, None)
    return dict(message)


@pytest.mark.parametrize("trace", [None, TRACE])
@pytest.mark.parametrize("priority", range(10))
async def test_a_script_rings_as_celery_would(
    clean_redis_url: str, priority: int, trace: str | None
) -> None:
    settings = load_settings(storage={"redis_url": clean_redis_url})
    parts = connect(settings)
    try:
        creation = await submit(
            parts.store, tenant="acme", priority=priority, traceparent=trace
        )
        assert creation.doorbells == ()
        by_script = taken(clean_redis_url)
        bell = Doorbell(
            "acme",
            creation.task.id,
            creation.task.agent_name,
            "celeriac",
            priority,
            trace,
        )
        await parts.queue.enqueue([bell])
        by_celery = taken(clean_redis_url)
    finally:
        await parts.aclose()
    assert isinstance(parts.queue, CeleryTaskQueue)
    assert {key: len(found) for key, found in by_script.items()} == {
        key: len(found) for key, found in by_celery.items()
    }
    ((mine,), (theirs,)) = (
        [raw for raws in found.values() for raw in raws]
        for found in (by_script, by_celery)
    )
    assert comparable(mine) == comparable(theirs)


async def test_every_message_of_a_task_names_its_trace(clean_redis_url: str) -> None:
    """The first one, one after a crash, and those of tasks that waited."""
    store = RedisTaskStore(
        connect_redis(clean_redis_url), doorbell_message=doorbell_message()
    )

    def traces() -> list[str | None]:
        return [
            parse_task_call(raw, accept=None).labels.get("traceparent")
            for raws in taken(clean_redis_url).values()
            for raw in raws
        ]

    try:
        task = await submitted(store, traceparent=TRACE)
        assert traces() == [TRACE]
        await submitted(store, after=(task.id,), traceparent=TRACE.replace("7", "8"))
        await submitted(store, after=(task.id,))
        await claim(store, task, lease_seconds=0.001)
        await sweep_until(store, task, TaskStatus.PENDING)
        assert traces() == [TRACE]
        lease = (await claim(store, task)).lease
        await store.finish(lease, completed(lease), running_seconds=0)
        assert set(traces()) == {TRACE.replace("7", "8"), None}
        events = await store.events("default", task.id)
        assert events[0].data == {"agent_name": AGENT, "traceparent": TRACE}
    finally:
        await store.aclose()


def rings(url: str) -> dict[str, int]:
    """How many messages each task has in the queue; takes them out."""
    calls = [
        parse_task_call(raw, accept=None)
        for raws in taken(url).values()
        for raw in raws
    ]
    return Counter(str(call.kwargs["task_id"]) for call in calls)


def opened(url: str, **settings: Any) -> RedisTaskStore:
    return RedisTaskStore(
        connect_redis(url), doorbell_message=doorbell_message(), **settings
    )


async def test_a_lost_message_that_was_overtaken_is_repeated_once(
    clean_redis_url: str,
) -> None:
    store = opened(clean_redis_url, resend_seconds=0.01)
    try:
        lost, taken_first = await submitted(store), await submitted(store)
        await claim(store, taken_first)
        rings(clean_redis_url)

        async def rung_again() -> bool:
            return (await store.sweep()).rung_again == 1

        await until(rung_again)
        assert rings(clean_redis_url) == {lost.id: 1}
    finally:
        await store.aclose()


async def test_the_turn_after_an_expired_one_is_rung_for_once(
    clean_redis_url: str,
) -> None:
    store = opened(clean_redis_url)
    try:
        first = await submitted(store, conversation_id="c", expires_seconds=0.01)
        second = await submitted(store, conversation_id="c")
        rings(clean_redis_url)

        async def expired() -> bool:
            return await try_claim(store, first) is RefusalReason.EXPIRED

        await asyncio.sleep(0.02)  # the instant itself; a claim before would run it
        await until(expired)
        await store.sweep()
        assert rings(clean_redis_url) == {second.id: 1}
        assert (await store.queues())[0].rung == 1
    finally:
        await store.aclose()


async def test_a_queue_of_its_own_is_rung_as_celery_would(clean_redis_url: str) -> None:
    settings = load_settings(
        storage={"redis_url": clean_redis_url},
        agents={"slow": {"queue": "slow-lane", "instructions": "Wait."}},
    )
    parts = connect(settings)
    try:
        task = await submitted(parts.store, agent_name="slow", queue="slow-lane")
        by_script = taken(clean_redis_url, "slow-lane")
        bell = Doorbell("default", task.id, "slow", "slow-lane", task.priority)
        await parts.queue.enqueue([bell])
        by_celery = taken(clean_redis_url, "slow-lane")
    finally:
        await parts.aclose()
    assert [key for key, raws in by_script.items() if raws] == [
        key for key, raws in by_celery.items() if raws
    ]
    ((mine,), (theirs,)) = (
        [raw for raws in found.values() for raw in raws]
        for found in (by_script, by_celery)
    )
    assert comparable(mine) == comparable(theirs)


async def test_another_broker_is_rung_by_the_caller(clean_redis_url: str) -> None:
    other = clean_redis_url.rsplit("/", 1)[0] + "/9"
    settings = load_settings(
        storage={"redis_url": clean_redis_url, "broker_url": other}
    )
    parts = connect(settings)
    try:
        creation = await submit(parts.store)
    finally:
        await parts.aclose()
    assert [bell.task_id for bell in creation.doorbells] == [creation.task.id]
    assert not any(taken(clean_redis_url).values())
