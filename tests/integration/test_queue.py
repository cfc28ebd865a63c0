"""Doorbells on a real broker, beside a worker's own pools, and without a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import pytest
import redis
from celery import Celery

from orchestrator.celery_settings import RUN_TASK, celery_settings
from orchestrator.errors import QueueUnavailable
from orchestrator.queue import CLOSE_SECONDS, CeleryTaskQueue
from orchestrator.settings import load_settings
from orchestrator.store import Doorbell
from tests.faults.restartable_redis import RestartableRedis


def bell(number: int, priority: int = 4) -> Doorbell:
    return Doorbell("default", f"task-{number}", "researcher", "celeriac", priority)


@pytest.fixture
async def queue(clean_redis_url: str) -> AsyncIterator[CeleryTaskQueue]:
    settings = load_settings(storage={"redis_url": clean_redis_url})
    queue = CeleryTaskQueue(celery_settings(settings), shown_url="redis")
    yield queue
    await queue.aclose()


@pytest.fixture
def restartable_redis() -> Iterator[RestartableRedis]:
    server = RestartableRedis()
    server.start()
    yield server
    server.close()


def messages(url: str, key: str = "celeriac") -> list[dict[str, object]]:
    with redis.Redis.from_url(url) as client:
        return [json.loads(raw) for raw in reversed(client.lrange(key, 0, -1))]


async def test_messages_keep_their_order_and_carry_ids_only(
    queue: CeleryTaskQueue, clean_redis_url: str
) -> None:
    await queue.enqueue([bell(number) for number in range(50)])
    sent = messages(clean_redis_url, "celeriac\x06\x163")
    assert [message["headers"]["id"] for message in sent] == [
        f"task-{number}" for number in range(50)
    ]
    assert {message["headers"]["task"] for message in sent} == {RUN_TASK}
    assert {message["headers"]["shadow"] for message in sent} == {"agent.researcher"}


async def test_the_most_urgent_task_is_served_first_by_celerys_order(
    queue: CeleryTaskQueue, clean_redis_url: str
) -> None:
    await queue.enqueue([bell(1, priority=0), bell(2, priority=9)])
    (urgent,) = messages(clean_redis_url)
    assert urgent["headers"]["id"] == "task-2"
    (patient,) = messages(clean_redis_url, "celeriac\x06\x169")
    assert patient["headers"]["id"] == "task-1"


async def test_it_sends_while_celerys_own_pools_of_the_process_are_in_use(
    queue: CeleryTaskQueue, clean_redis_url: str
) -> None:
    app = Celery("other", broker=load_broker(clean_redis_url), set_as_current=False)
    with app.producer_pool.acquire(block=True):
        await queue.enqueue([bell(1)])
    assert len(messages(clean_redis_url, "celeriac\x06\x163")) == 1
    app.close()


def load_broker(url: str) -> str:
    return load_settings(storage={"redis_url": url}).storage.kombu_url


async def test_without_a_broker_it_says_so_soon_and_sends_once_there_is_one() -> None:
    settings = load_settings(storage={"redis_url": "redis://127.0.0.1:9/0"})
    queue = CeleryTaskQueue(
        celery_settings(settings), shown_url=settings.storage.redacted_broker_url
    )
    async with asyncio.timeout(5):
        with pytest.raises(QueueUnavailable, match=r"127\.0\.0\.1:9"):
            await queue.enqueue([bell(1)])
    await queue.aclose()


async def test_sends_do_not_pile_up_behind_a_broker_that_hangs(
    restartable_redis: RestartableRedis,
) -> None:
    settings = load_settings(storage={"redis_url": restartable_redis.url})
    queue = CeleryTaskQueue(celery_settings(settings), shown_url="redis")
    await queue.enqueue([bell(0)])
    with restartable_redis.stopped():
        async with asyncio.timeout(30):
            refused = await asyncio.gather(
                *(queue.enqueue([bell(number)]) for number in range(1, 31)),
                return_exceptions=True,
            )
            started = monotonic()
            await queue.aclose()
            assert monotonic() - started < CLOSE_SECONDS + 5.0
    assert {type(error) for error in refused} == {QueueUnavailable}


async def test_a_closed_queue_says_that_it_did_not_send(queue: CeleryTaskQueue) -> None:
    await queue.aclose()
    with pytest.raises(QueueUnavailable):
        await queue.enqueue([bell(1)])
