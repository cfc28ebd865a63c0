"""A4, A6 to A8, C1, D1: zombies, poison, races, dead clients, silence, wrong clocks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import TaskFailed, TaskFilter, TaskStatus
from tests.faults import fault_agents
from tests.faults.fleet import LEASE_SECONDS, Fleet, choose
from tests.faults.invariants import broken_invariants
from tests.faults.redis_proxy import RedisProxy
from tests.faults.scripted_model import prompt
from tests.faults.wrong_clock import wrong_clock

pytestmark = pytest.mark.timeout(120)

DAY_SECONDS = 86_400.0


@pytest.mark.slow
async def test_a_worker_that_was_frozen_beyond_its_lease_writes_nothing_more(
    fleet: Fleet,
) -> None:
    first = await fleet.start_worker("--pool", "threads")
    fleet.model.delay = lambda label, number: 2.0
    handle = await fleet.submit("a", turns=2)
    await fleet.until(fleet.requested("a", 2))
    os.killpg(first.pid, signal.SIGSTOP)
    await fleet.start_worker("--pool", "threads")
    await fleet.until(lambda: fleet.model.counts()["a", 2] == 2, timeout=20)
    os.killpg(first.pid, signal.SIGCONT)
    assert (await handle.result(timeout=30)).content == "done a"
    assert (await handle.get()).attempt == 2
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 2, ("a", 3): 1}
    assert await broken_invariants(fleet) == []
    assert first.process.poll() is None


@pytest.mark.slow
async def test_a_lone_worker_that_was_frozen_goes_on_where_it_was(fleet: Fleet) -> None:
    worker = await fleet.start_worker("--pool", "threads")
    fleet.model.delay = lambda label, number: 1.0
    handle = await fleet.submit("a", turns=2)
    await fleet.until(fleet.requested("a", 2))
    os.killpg(worker.pid, signal.SIGSTOP)
    await asyncio.sleep(2 * LEASE_SECONDS)
    os.killpg(worker.pid, signal.SIGCONT)
    assert (await handle.result(timeout=30)).content == "done a"
    assert (await handle.get()).attempt == 1
    assert await broken_invariants(fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("way", fault_agents.DEATHS)
async def test_a_poison_task_fails_and_its_neighbours_complete(
    fleet: Fleet, way: str
) -> None:
    worker = await fleet.start_worker("--pool", "prefork", slots=3)
    poison = await fleet.celeriac.submit("poison", {"prompt": "die", "way": way})
    for number in range(20):
        await fleet.submit(f"t{number}", turns=1)
    await fleet.all_ended(60)
    async for _ in poison.events():
        pass
    task = await poison.get()
    assert task.status is TaskStatus.FAILED
    assert task.failure is not None
    assert (task.failure.code, task.crashes) == ("crash_loop", 3)
    statuses = Counter([(await fleet.record(name)).status for name in fleet.accepted])
    assert statuses == {TaskStatus.COMPLETED: 20}
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


async def test_a_cancel_at_any_moment_gives_one_end(fleet: Fleet) -> None:
    await fleet.start_worker("--pool", "threads", slots=10)
    chance = random.Random(7)  # noqa: S311
    fleet.model.delay = lambda label, number: 0.1

    async def submit_and_cancel(number: int) -> None:
        await asyncio.sleep(chance.uniform(0, 2))
        handle = await fleet.submit(f"t{number}", turns=2)
        await asyncio.sleep(chance.uniform(0, 1.0))
        asked = time.monotonic()
        await handle.cancel()
        async for _ in handle.events():
            pass
        assert time.monotonic() - asked < 20

    await asyncio.gather(*(submit_and_cancel(number) for number in range(60)))
    statuses = Counter([(await fleet.record(name)).status for name in fleet.accepted])
    assert set(statuses) <= {TaskStatus.CANCELLED, TaskStatus.COMPLETED}
    assert statuses[TaskStatus.CANCELLED] > 5
    assert await broken_invariants(fleet) == []


CLIENT = """
import sys
from orchestrator import Orchestrator
with Orchestrator() as celeriac:
    for number in range(int(sys.argv[1])):
        key = f"key-{number}"
        task = celeriac.submit("assistant", {"prompt": key}, idempotency_key=key)
        print(key, task.id, flush=True)
"""


async def test_a_client_that_is_killed_and_tries_again_makes_one_task_for_each_key(
    fleet: Fleet,
) -> None:
    command = [sys.executable, "-c", CLIENT, "300"]
    directory, variables = fleet.stand.directory, fleet.stand.variables()
    with subprocess.Popen(
        command, env=variables, cwd=directory, stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        told = [await asyncio.to_thread(client.stdout.readline) for _ in range(40)]
        client.kill()
        told += client.stdout.readlines()
    again = await asyncio.to_thread(
        subprocess.check_output, command, env=variables, cwd=directory
    )
    ids = dict(line.decode().split() for line in again.splitlines())
    for line in told:
        if line.endswith(b"\n"):
            key, task_id = line.decode().split()
            assert ids[key] == task_id
    tasks = []
    cursor = None
    while True:
        page = await fleet.celeriac.list(TaskFilter(), limit=200, cursor=cursor)
        tasks += page.tasks
        if (cursor := page.next_cursor) is None:
            break
    assert sorted(task.idempotency_key for task in tasks) == sorted(ids)
    assert len(ids) == 300


@pytest.mark.slow
async def test_a_worker_that_redis_no_longer_hears_loses_its_run_and_comes_back(
    fleet: Fleet,
) -> None:
    path = fleet.server.directory / "proxy.sock"
    async with RedisProxy(fleet.server.socket, path) as proxy:
        fleet.stand.environment["REDIS_URL"] = proxy.url
        cut_off = await fleet.start_worker("--pool", "threads")
        del fleet.stand.environment["REDIS_URL"]
        fleet.model.delay = lambda label, number: 1.5
        handle = await fleet.submit("a", turns=2)
        await fleet.until(fleet.requested("a", 2))
        proxy.open.clear()
        silent = time.monotonic()
        second = await fleet.start_worker("--pool", "threads")
        assert (await handle.result(timeout=40)).content == "done a"
        assert time.monotonic() - silent < 30
        proxy.open.set()
        second.stop()
        again = await fleet.submit("b", turns=0)
        assert (await again.result(timeout=60)).content == "done b"
        assert cut_off.process.poll() is None
        assert await broken_invariants(fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_workers_whose_clocks_are_wrong_by_a_day_change_nothing(
    fleet: Fleet, pool: str
) -> None:
    for offset in (DAY_SECONDS, -DAY_SECONDS):
        fleet.stand.environment |= wrong_clock(fleet.stand.directory, offset)
        await fleet.start_worker(*choose(pool))
    seen = (fleet.stand.directory / "clocks.log").read_text().split()[1::2]
    assert {round(float(offset) / DAY_SECONDS) for offset in seen} == {1, -1}
    fleet.model.delay = lambda label, number: 1.5
    for number in range(6):
        await fleet.submit(f"t{number}", turns=2, deadline=60)
    now = datetime.now(UTC)
    await fleet.submit("later", turns=1, not_before=now + timedelta(seconds=2))
    expired = await fleet.celeriac.submit(
        "counter",
        {"prompt": prompt("late")},
        not_before=now + timedelta(hours=1),
        deadline=2,
    )
    await fleet.all_ended(60)
    for label in fleet.accepted:
        record = await fleet.record(label)
        assert (record.status, record.attempt) == (TaskStatus.COMPLETED, 1)
        assert record.running_seconds < 30
    with pytest.raises(TaskFailed, match="deadline"):
        await expired.result(timeout=20)
    assert await broken_invariants(fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["async", "threads"])
async def test_a_run_that_blocks_its_loop_beyond_the_limit_moves_on(
    fleet: Fleet, pool: str
) -> None:
    """And what else there is to do is left to workers whose loop moves."""
    fleet.stand.environment["CELERIAC_WORKER__LOOP_STALL_LIMIT"] = "1500ms"
    workers = [await fleet.start_worker(*choose(pool)) for _ in range(2)]
    handle = await fleet.celeriac.submit("blocker", {"block_seconds": 100})
    fleet.accepted["blocker"] = handle.id
    given_up = "its runs are given up"
    await fleet.until(lambda: any(given_up in worker.text() for worker in workers))
    (blocked,) = (worker for worker in workers if given_up in worker.text())
    for number in range(10):
        await fleet.submit(f"t{number}", turns=1)
    assert (await handle.result(timeout=60)).content == "attempt 2"
    await fleet.all_ended(60)
    assert "event loop moves again" not in blocked.text()
    with fleet.raw() as client:
        for task_id in fleet.accepted.values():
            rings = client.hget(f"celeriac:default:task:{task_id}", "rings")
            assert rings == "1", "the blocked worker took the message"
    os.killpg(blocked.pid, signal.SIGKILL)
    assert await broken_invariants(fleet) == []
