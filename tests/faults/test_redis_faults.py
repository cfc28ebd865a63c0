"""B: a Redis that dies, sleeps, fills up, refuses writes or loses the queue."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orchestrator import AsyncOrchestrator, TaskFilter, load_settings
from orchestrator.celery_settings import DEFAULT_QUEUE
from orchestrator.errors import (
    OrchestratorError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnfit,
)
from orchestrator.http.exposition import FiguresCollector
from orchestrator.redis_keys import UNFIT
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import ANSWER_SECONDS, broken_invariants
from tests.faults.restartable_redis import RestartableRedis
from tests.stand import Stand

pytestmark = pytest.mark.timeout(120)

BEYOND_THE_LEASE_SECONDS = 5.0


async def test_a_redis_that_is_killed_and_restarted_costs_no_step_and_no_attempt(
    fleet: Fleet,
) -> None:
    worker = await fleet.start_worker(*choose("async"))
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b", "c"):
        await fleet.submit(label, turns=3)
    await fleet.until(lambda: len(fleet.model.requests) >= 4)
    fleet.server.kill()
    await asyncio.sleep(BEYOND_THE_LEASE_SECONDS)
    fleet.server.restart()
    await fleet.all_ended(30)
    for label in ("a", "b", "c"):
        assert (await fleet.record(label)).attempt == 1
    assert set(fleet.model.counts().values()) == {1}
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(
            RestartableRedis.stopped, StoreUnavailable, marks=pytest.mark.slow
        ),
        (RestartableRedis.full, StoreFull),
        pytest.param(RestartableRedis.read_only, StoreReadOnly, marks=pytest.mark.slow),
    ],
)
async def test_a_redis_that_refuses_for_longer_than_the_lease_costs_no_finished_step(
    fleet: Fleet,
    fault: Callable[[RestartableRedis], AbstractContextManager[None]],
    error: type[Exception],
) -> None:
    worker = await fleet.start_worker(*choose("async"))
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b", "c"):
        await fleet.submit(label, turns=1)
    await fleet.until(lambda: len(fleet.model.requests) >= 3)
    with fault(fleet.server):
        began = time.monotonic()
        with pytest.raises(error):
            await fleet.submit("refused")
        left = BEYOND_THE_LEASE_SECONDS - (time.monotonic() - began)
        await asyncio.sleep(max(left, 0))
    healed = time.monotonic()
    await fleet.all_ended(30)
    assert time.monotonic() - healed < 20
    for label in ("a", "b", "c"):
        assert (await fleet.record(label)).attempt == 1
    assert set(fleet.model.counts().values()) == {1}
    assert await broken_invariants(fleet) == []
    await fleet.submit("afterwards")
    await fleet.all_ended(20)
    assert worker.process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_a_worker_takes_new_work_once_redis_takes_writes_again(
    fleet: Fleet, pool: str
) -> None:
    worker = await fleet.start_worker(*choose(pool))
    with fleet.server.read_only():
        await asyncio.sleep(BEYOND_THE_LEASE_SECONDS)
    await fleet.submit("afterwards")
    await fleet.all_ended(15)
    assert worker.process.poll() is None


@pytest.mark.slow
async def test_cut_connections_and_flushed_scripts_cost_nothing(fleet: Fleet) -> None:
    worker = await fleet.start_worker(*choose("async"))
    fleet.model.delay = lambda label, number: 0.3
    for number in range(6):
        await fleet.submit(f"t{number}", turns=4)
    for _ in range(6):
        fleet.server.cut_connections()
        with fleet.server.client() as client:
            client.script_flush()
        await asyncio.sleep(0.4)
    await fleet.all_ended(45)
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


@pytest.mark.slow
async def test_a_deleted_queue_and_repeated_messages_change_nothing(
    fleet: Fleet,
) -> None:
    for number in range(12):
        await fleet.submit(f"t{number}", turns=1)
    with fleet.server.client() as client:
        queues = list(client.scan_iter(f"{DEFAULT_QUEUE}*", _type="LIST"))
        messages = [text for key in queues for text in client.lrange(key, 0, -1)]
        assert len(messages) == 12
        client.delete(*queues)
        client.lpush(queues[0], *messages[:4], *messages[:4], *messages[:4])
    await fleet.start_worker(*choose("async"))
    await fleet.all_ended(40)
    assert set(fleet.model.counts().values()) == {1}
    assert await broken_invariants(fleet) == []


async def test_what_was_acknowledged_in_a_burst_outlives_the_servers_death(
    fleet: Fleet,
) -> None:
    with fleet.server.client() as server:  # `everysec` answers while a disk is busy
        server.config_set("appendfsync", "always")
    acknowledged: set[str] = set()
    keys = [f"key-{number}" for number in range(200)]

    async def submit(key: str) -> None:
        try:
            await fleet.submit(key, idempotency_key=key)
        except StoreUnavailable:
            return
        acknowledged.add(key)

    async def client(number: int) -> None:
        for key in keys[number::20]:
            await submit(key)

    burst = asyncio.gather(*(client(number) for number in range(20)))
    while len(acknowledged) < 40:
        await asyncio.sleep(0.005)
    fleet.server.kill()
    await asyncio.sleep(0.5)
    fleet.server.restart()
    await burst
    stored = await all_keys(fleet.celeriac)
    assert acknowledged <= set(stored)
    for key in keys:
        await submit(key)
    assert sorted(await all_keys(fleet.celeriac)) == sorted(keys)
    assert all(answer.seconds < ANSWER_SECONDS for answer in fleet.answers)


async def all_keys(celeriac: AsyncOrchestrator) -> list[str | None]:
    """The idempotency key of every record."""
    keys: list[str | None] = []
    cursor = None
    while True:
        page = await celeriac.list(TaskFilter(), limit=200, cursor=cursor)
        keys += [task.idempotency_key for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            return keys


@pytest.mark.parametrize("fault", ["refused", "wrong password", "asleep"])
async def test_every_submit_is_answered_within_five_seconds_with_a_typed_error(
    server: RestartableRedis, fault: str
) -> None:
    url = server.url
    with server.client() as client:
        if fault == "refused":
            url = "redis://127.0.0.1:9/0"
        elif fault == "wrong password":
            client.config_set("requirepass", "right")
            url = f"unix://:canary@{server.socket}"
        settings = load_settings(storage={"redis_url": url})
        async with AsyncOrchestrator(settings) as celeriac:
            if fault == "asleep":
                sleeping = asyncio.to_thread(sleep_for, server, 7)
                asleep = asyncio.create_task(sleeping)
                await asyncio.sleep(0.3)
            started = time.monotonic()
            with pytest.raises(OrchestratorError) as caught:
                await celeriac.submit("assistant", {"prompt": "anyone?"})
            assert time.monotonic() - started < ANSWER_SECONDS
            assert isinstance(caught.value, StoreUnavailable)
            assert "canary" not in str(caught.value)
            if fault == "asleep":
                await asleep


def sleep_for(server: RestartableRedis, seconds: float) -> None:
    with server.client(timeout=seconds + 10) as client:
        client.execute_command("DEBUG", "SLEEP", seconds)


@pytest.mark.slow
def test_a_worker_refuses_a_redis_that_evicts(
    server: RestartableRedis, tmp_path: Path
) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    worker = Stand(server.url, tmp_path).start_worker(wait=False)
    assert worker.wait() != 0
    assert "noeviction" in worker.text().strip().splitlines()[-1]


@pytest.mark.slow
async def test_a_redis_that_begins_to_evict_is_told_and_takes_no_new_task(
    fleet: Fleet,
) -> None:
    """B6: what was accepted goes on; `/readyz` and `/status` are of the same report."""
    worker = await fleet.start_worker(*choose("async"))
    fleet.model.delay = lambda label, number: 0.5
    await fleet.submit("before", turns=3)
    with fleet.server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        await fleet.until(lambda: bool(client.exists(UNFIT)), 20)
        with pytest.raises(StoreUnfit, match="allkeys-lru"):
            await fleet.submit("refused")
        readiness = await fleet.celeriac.readiness()
        unready = {part.name: part.detail for part in readiness.parts if not part.ready}
        assert "noeviction" in unready["store"]
        overview = await fleet.celeriac.overview(fleet=True)
        assert "noeviction" in (overview.store or {})["unfit"]
        told = {m.name: m.samples for m in FiguresCollector({}, overview).collect()}
        assert [sample.value for sample in told["celeriac_store_unfit"]] == [1]
        await fleet.until(lambda: "store alarm" in worker.text(), 20)
        client.config_set("maxmemory-policy", "noeviction")
        await fleet.until(lambda: not client.exists(UNFIT), 20)
    await fleet.submit("afterwards")
    await fleet.all_ended(30)
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_a_worker_that_starts_while_redis_is_away_waits_for_it(
    fleet: Fleet, pool: str
) -> None:
    await fleet.submit("a")
    fleet.server.kill()
    worker = await fleet.start_worker(*choose(pool), wait=False)
    await fleet.until(lambda: "cannot be reached" in worker.text(), 30)
    fleet.server.restart()
    await fleet.all_ended(40)
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_a_worker_leaves_within_its_grace_although_redis_is_away(
    fleet: Fleet, pool: str
) -> None:
    fleet.stand.environment["CELERIAC_WORKER__SHUTDOWN_GRACE"] = "2s"
    worker = await fleet.start_worker(*choose(pool))
    fleet.model.delay = lambda label, number: 1.0
    handle = await fleet.submit("a", turns=3)
    await fleet.until(fleet.requested("a"))
    fleet.server.kill()
    asked = time.monotonic()
    worker.signal(signal.SIGTERM)
    await asyncio.to_thread(worker.wait, 30)
    assert time.monotonic() - asked < 25
    fleet.server.restart()
    await fleet.start_worker(*choose(pool))
    assert (await handle.result(timeout=40)).content == "done a"
    assert await broken_invariants(fleet) == []


GARBAGE = [
    "not json",
    "7",
    "[]",
    "{}",
    "null",
    '{"body": "%%%", "headers": {}, "properties": {"body_encoding": "base64"}}',
    '{"body": "e30=", "headers": null, "properties": {"delivery_tag": "x"}}',
    '{"headers": {"task": "celeriac.run"}, "properties": {"delivery_tag": "x"}}',
    "\x00\x01",
    "[" * 10_000,
]


@pytest.mark.parametrize(
    "pool", ["async", pytest.param("prefork", marks=pytest.mark.slow)]
)
async def test_garbage_in_the_queue_stops_no_worker(fleet: Fleet, pool: str) -> None:
    worker = await fleet.start_worker(*choose(pool))
    with fleet.server.client() as client:
        for message in GARBAGE:
            client.lpush(DEFAULT_QUEUE, message)
    await fleet.submit("afterwards")
    await fleet.all_ended(20)
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None
