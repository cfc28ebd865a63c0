"""A broker that takes connections and says nothing, while the store answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import QueueUnavailable
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.redis_connection import connect as connect_redis
from orchestrator.redis_store import RedisTaskStore
from orchestrator.sweeper import Sweeper
from orchestrator.task import TaskStatus
from orchestrator.wiring import connect
from tests.conformance.task_steps import until, worker
from tests.faults.restartable_redis import RestartableRedis
from tests.stand import Stand

RESEND_SECONDS = 0.1
LIST = "celeriac\x06\x163"


@pytest.fixture
def broker() -> Iterator[RestartableRedis]:
    server = RestartableRedis()
    server.start()
    yield server
    server.close()


@pytest.fixture
def apart(clean_redis_url: str, tmp_path: Path, broker: RestartableRedis) -> Stand:
    return Stand(clean_redis_url, tmp_path, broker_url=broker.url)


async def test_a_submit_is_accepted_and_says_what_hangs_and_is_rung_for_afterwards(
    apart: Stand, broker: RestartableRedis
) -> None:
    client = connect_redis(apart.redis_url)
    store = RedisTaskStore(client, resend_seconds=RESEND_SECONDS)
    parts = replace(connect(apart.settings()), store=store)
    await parts.directory.announce(worker("assistant"), ttl_seconds=600)
    async with AsyncOrchestrator(parts=parts) as celeriac:
        with broker.stopped():
            handle = await celeriac.submit("assistant", {"prompt": "hi"})
        assert "broker" in str(handle.warning)
        assert "is rung for again once" in str(handle.warning)
        assert await handle.status() is TaskStatus.PENDING
        sweeper = Sweeper(store, parts.queue)

        async def is_rung_for() -> bool:
            with suppress(QueueUnavailable):  # the first try may hang still
                await sweeper.sweep()
            with broker.client() as inside:
                messages = map(json.loads, inside.lrange(LIST, 0, -1))
                return handle.id in {each["headers"]["id"] for each in messages}

        await until(is_rung_for)
    await client.aclose()
