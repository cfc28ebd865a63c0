"""Every slot of a worker runs a task at the same time, from its first second on."""

from __future__ import annotations

import asyncio
import json
import signal
from functools import partial
from threading import Event
from time import monotonic
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from orchestrator import AsyncOrchestrator, TaskFailed
from orchestrator.celery_settings import RUN_TASK, celery_settings
from orchestrator.task import TaskStatus
from tests.stand import Stand, wait_until
from workers.llm.double import Double
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(180)

SLOTS = 2
FRESH_WORKERS = 3
"""Celery orders steps by the addresses of their classes: one worker proves little."""


async def _statuses(celeriac: AsyncOrchestrator, count: int) -> list[TaskStatus]:
    handles = await asyncio.gather(
        *(celeriac.submit("assistant", {"prompt": str(n)}) for n in range(count))
    )
    running = min(count, SLOTS)
    statuses: list[TaskStatus] = []
    async with asyncio.timeout(20):
        while statuses.count(TaskStatus.RUNNING) < running:
            await asyncio.sleep(0.05)
            statuses = [await handle.status() for handle in handles]
    for handle in handles:
        await handle.cancel()
    async with asyncio.timeout(20):
        for handle in handles:
            while not (await handle.status()).is_terminal:
                await asyncio.sleep(0.05)
    return statuses


@pytest.mark.parametrize(
    ("pool", "workers"),
    [(None, FRESH_WORKERS), ("threads", 1), ("prefork", 1)],
)
async def test_tasks_of_a_fresh_worker_take_all_its_slots_while_each_hangs(
    stand: Stand, pool: str | None, workers: int
) -> None:
    chosen = ("--pool", pool) if pool else ()
    async with Double(lambda _: HttpReply(hang=True)) as double:
        stand.llm_url = double.url
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            for _ in range(workers):
                worker = await asyncio.to_thread(
                    stand.start_worker, *chosen, slots=SLOTS
                )
                for count in (SLOTS, 1, SLOTS + 1):
                    statuses = await _statuses(celeriac, count)
                    assert statuses.count(TaskStatus.RUNNING) == min(count, SLOTS)
                await asyncio.to_thread(worker.stop)


async def test_a_worker_takes_as_much_as_remote_control_has_made_of_its_slots(
    stand: Stand,
) -> None:
    """Celery's own count knows of neither change."""
    app = Celery("client", set_as_current=False)
    app.conf.update(celery_settings(stand.settings()))

    def running() -> set[int]:
        answers = app.control.inspect(timeout=2.0).stats() or {}
        pools = [answer["pool"] for answer in answers.values()]
        return {pool["running"] + pool["waiting"] for pool in pools}

    def have_in_hand(count: int) -> None:
        wait_until(lambda: running() == {count}, 20, lambda: str(running()))

    async with Double(lambda _: HttpReply(hang=True)) as double:
        stand.llm_url = double.url
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            requests = [{"agent": "assistant", "input": {"prompt": "Hello"}}] * 20
            await celeriac.submit_many(requests)

            def change() -> None:
                worker = stand.start_worker("--autoscale", "3,1")
                have_in_hand(3)
                app.control.autoscale(max=7, min=1, reply=True)
                have_in_hand(7)
                worker.signal(signal.SIGKILL)
                stand.start_worker(slots=2)
                have_in_hand(2)
                app.control.pool_shrink(2, reply=True)
                app.control.pool_grow(4, reply=True)
                have_in_hand(4)
                Event().wait(1)
                assert running() == {4}

            await asyncio.to_thread(change)
    app.close()


@pytest.mark.parametrize("pool", [None, "threads"])
async def test_what_comes_as_a_worker_ends_is_left_to_another(
    stand: Stand, pool: str | None
) -> None:
    """It is still in Redis' line for a message, and the first there."""
    chosen = ("--pool", pool) if pool else ()
    async with Double() as double:
        stand.llm_url = double.url
        for _ in range(2):
            await asyncio.to_thread(stand.start_worker, *chosen, slots=SLOTS)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            ask = partial(celeriac.submit, "assistant", {"prompt": "Hello"})
            first = await ask()
            await first.result(timeout=20)
            (waits,) = (each for each in stand.workers if first.id not in each.text())
            waits.signal(signal.SIGTERM)
            second = await ask()
            await second.result(timeout=20)
            assert (await asyncio.to_thread(waits.wait)) == 0
            assert second.id not in waits.text()
            assert (await celeriac.get(second.id)).attempt == 1


async def test_a_worker_without_slots_outlives_the_end_of_its_idle_connection(
    stand: Stand,
) -> None:
    """A proxy ends such connections, or a Redis with a `timeout`."""
    app = Celery("client", set_as_current=False)
    app.conf.update(celery_settings(stand.settings()))

    def lose_it_while_there_are_none(client: Redis) -> None:
        def pops() -> list[str]:
            answers = client.client_list()
            return [each["id"] for each in answers if is_waiting_pop(each)]

        wait_until(lambda: len(pops()) == 1, 20)
        (pop,) = pops()
        while not app.control.broadcast("pool_shrink", {"n": SLOTS}, reply=True):
            pass  # the worker does not listen yet
        client.client_unblock(int(pop))
        assert client.client_kill_filter(_id=pop) == 1
        while not app.control.ping():
            pass  # it has read what comes on its connections before it reads more
        app.control.broadcast("pool_grow", {"n": SLOTS}, reply=True)
        wait_until(lambda: len(pops()) == 1, 20)

    async with Double() as double:
        stand.llm_url = double.url
        worker = await asyncio.to_thread(stand.start_worker, slots=SLOTS)
        with Redis.from_url(stand.redis_url) as client:
            await asyncio.to_thread(lose_it_while_there_are_none, client)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            task = await celeriac.submit("assistant", {"prompt": "Hello"})
            await task.result(timeout=30)
    app.close()
    assert "lost" not in worker.text()
    assert "heartbeat missed" not in worker.text()


def is_waiting_pop(client: dict[str, str]) -> bool:
    return client["cmd"] == "blmpop" and "b" in client["flags"]


async def test_as_many_begin_as_a_rate_limit_allows(stand: Stand) -> None:
    app = Celery("client", set_as_current=False)
    app.conf.update(celery_settings(stand.settings()))
    async with Double() as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker, slots=40)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            limit = partial(asyncio.to_thread, app.control.rate_limit, RUN_TASK)
            while not await limit("5/s", reply=True):
                pass  # the worker does not listen yet
            requests = [{"agent": "assistant", "input": {"prompt": "Hello"}}] * 30
            handles = await celeriac.submit_many(requests)
            began = monotonic()
            for handle in handles:
                await handle.result(timeout=40)
            assert 5 < monotonic() - began < 12
    app.close()


async def test_a_rate_limit_that_is_lifted_holds_nothing_any_longer(
    stand: Stand,
) -> None:
    app = Celery("client", set_as_current=False)
    app.conf.update(celery_settings(stand.settings()))
    async with Double() as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker, slots=SLOTS)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            limit = partial(asyncio.to_thread, app.control.rate_limit, RUN_TASK)
            while not await limit("1/h", reply=True):
                pass  # the worker does not listen yet
            requests = [{"agent": "assistant", "input": {"prompt": "Hello"}}] * 6
            handles = await celeriac.submit_many(requests)
            await handles[0].result(timeout=20)
            await limit("2/h", reply=True)
            await limit(0, reply=True)
            for handle in handles:
                await handle.result(timeout=20)
    app.close()


async def test_what_is_announced_follows_remote_control(stand: Stand) -> None:
    app = Celery("client", set_as_current=False)
    app.conf.update(celery_settings(stand.settings()))
    agents = {"assistant": {}, "painter": {"queue": "gpu"}}
    stand.environment["CELERIAC_AGENTS"] = json.dumps(agents)
    worker = await asyncio.to_thread(stand.start_worker, "-Q", "celeriac", slots=SLOTS)
    async with AsyncOrchestrator(stand.settings()) as celeriac:

        async def announced(queues: set[str], serves: set[str], slots: int) -> None:
            async with asyncio.timeout(20):
                while True:
                    (told,) = await celeriac.workers()
                    if (set(told.queues), told.slots) == (queues, slots):
                        assert set(told.served) == serves
                        return
                    await asyncio.sleep(0.1)

        def ask_until_it_is_heard(command: str, arguments: dict[str, Any]) -> None:
            while not app.control.broadcast(command, arguments, reply=True):
                pass  # the worker does not listen yet

        ask = partial(asyncio.to_thread, ask_until_it_is_heard)
        await announced({"celeriac"}, {"assistant"}, SLOTS)
        await ask("add_consumer", {"queue": "gpu"})
        await announced({"celeriac", "gpu"}, {"assistant", "painter"}, SLOTS)
        await ask("cancel_consumer", {"queue": "celeriac"})
        await ask("pool_shrink", {"n": SLOTS})
        await announced({"gpu"}, {"painter"}, 0)
        await ask("cancel_consumer", {"queue": "gpu"})
        await announced(set(), set(), 0)
    app.close()
    assert "heartbeat failed" not in worker.text()


async def test_a_workers_log_tells_the_facts_on_one_line(stand: Stand) -> None:
    replies = [HttpReply(status=401, text="bad key")]
    async with Double(replies) as double:
        stand.llm_url = double.url
        worker = await asyncio.to_thread(stand.start_worker)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            task = await celeriac.submit("assistant", {"prompt": "Hello"})
            with pytest.raises(TaskFailed):
                await task.result(timeout=30)
    (line,) = (line for line in worker.text().splitlines() if "attempt failed" in line)
    assert f"task_id={task.id} attempt=1 code=request_rejected again=False" in line


async def test_a_solo_worker_runs_one_task_after_the_other(stand: Stand) -> None:
    replies = [HttpReply(text=text, delay_seconds=0.3) for text in ("one", "two")]
    async with Double(replies) as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker, "--pool", "solo", slots=SLOTS)
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            handles = await asyncio.gather(
                *(celeriac.submit("assistant", {"prompt": str(n)}) for n in range(2))
            )
            results = [await handle.result(timeout=30) for handle in handles]
    assert {result.content for result in results} == {"one", "two"}
