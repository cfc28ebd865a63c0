"""A long queue holds a bounded number of Celery messages, however long it waits."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.celery_settings import celery_settings
from orchestrator.queue import CeleryTaskQueue
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Creation
from orchestrator.sweeper import Sweeper
from orchestrator.task import Task
from tests.stand import Stand

pytestmark = pytest.mark.timeout(120)

TASKS = 5_000
WINDOW = 64
SLACK = 8
RESEND_SECONDS = 0.2
SWEEPS = 30


async def test_five_thousand_tasks_and_one_slow_worker_make_few_messages(
    stand: Stand,
) -> None:
    client = connect(stand.redis_url)
    store = RedisTaskStore(client, resend_seconds=RESEND_SECONDS)
    queue = CeleryTaskQueue(celery_settings(stand.settings()), shown_url="redis")
    sweeper = Sweeper(store, queue)

    async def messages() -> int:
        keys = [key async for key in client.scan_iter("celeriac*", _type="list")]
        return sum([await client.llen(key) for key in keys])

    longest = 0
    order: list[str] = []
    for _ in range(TASKS // 500):
        creations = await store.create([Task(agent_name="slow") for _ in range(500)])
        made = [each for each in creations if isinstance(each, Creation)]
        order += [creation.task.id for creation in made]
        await queue.enqueue([bell for each in made for bell in each.doorbells])
    for task_id in order[:SWEEPS]:
        await asyncio.sleep(RESEND_SECONDS / 2)
        await sweeper.sweep()
        longest = max(longest, await messages())
        claimed = await store.claim(
            "default", task_id, worker="w", serves=["slow"], lease_seconds=60
        )
        assert isinstance(claimed, Claim)
        await queue.enqueue(claimed.doorbells)
    # Claims here take no message from the broker, so each one leaves its own behind.
    assert WINDOW <= longest <= WINDOW + SWEEPS + SLACK
    await queue.aclose()
    await client.aclose()
