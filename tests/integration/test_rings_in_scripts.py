"""Where broker and store are one Redis, scripts ring: the same messages as Celery's."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from orchestrator.queue import CeleryTaskQueue
from orchestrator.settings import load_settings
from orchestrator.store import Doorbell
from orchestrator.wiring import connect
from tests.conformance.task_steps import submit
from workers.task_message import parse_task_call

QUEUE_KEYS = ["celeriac", *(f"celeriac\x06\x16{step}" for step in (3, 6, 9))]


def taken(url: str) -> dict[str, list[bytes]]:
    with redis.Redis.from_url(url) as client:
        found = {key: client.lrange(key, 0, -1) for key in QUEUE_KEYS}
        client.delete(*QUEUE_KEYS)
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


@pytest.mark.parametrize("priority", range(10))
async def test_a_script_rings_as_celery_would(
    clean_redis_url: str, priority: int
) -> None:
    settings = load_settings(storage={"redis_url": clean_redis_url})
    parts = connect(settings)
    try:
        creation = await submit(parts.store, tenant="acme", priority=priority)
        assert creation.doorbells == ()
        by_script = taken(clean_redis_url)
        bell = Doorbell(
            "acme", creation.task.id, creation.task.agent_name, "celeriac", priority
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
