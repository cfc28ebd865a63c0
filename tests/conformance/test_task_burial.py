"""A worker that is known to be dead loses its leases at once, on every store."""

from __future__ import annotations

import asyncio

from orchestrator.errors import LeaseLost
from orchestrator.store import Creation, LeaseState, TaskFilter
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import AGENT, claim, completed, submitted, worker
from workers.undertaker import Undertaker


async def test_the_dead_workers_runs_go_on_and_the_others_keep_theirs(
    stores: Stores,
) -> None:
    for name in ("dead", "alive"):
        await stores.directory.announce(worker(AGENT, worker_id=name), ttl_seconds=60)
    tasks = [await submitted(stores.tasks) for _ in range(3)]
    mine = (await claim(stores.tasks, tasks[0], worker="alive")).lease
    lost = [(await claim(stores.tasks, t, worker="dead")).lease for t in tasks[1:]]

    await Undertaker(
        stores.tasks, stores.directory, is_dead=lambda name: name == "dead"
    ).look()

    assert [info.id for info in await stores.directory.workers()] == ["alive"]
    report = await stores.tasks.sweep()
    assert report.recovered == 2
    assert {bell.task_id for bell in report.doorbells} == {t.id for t in tasks[1:]}
    states = await stores.tasks.renew([mine, *lost], lease_seconds=30)
    assert states == (LeaseState.HELD, LeaseState.LOST, LeaseState.LOST)
    for lease in lost:
        try:
            await stores.tasks.finish(lease, completed(lease), running_seconds=0)
        except LeaseLost:
            continue
        raise AssertionError("a dead worker's fence was accepted")
    again = [await stores.tasks.get("default", task.id) for task in tasks[1:]]
    assert [(t.status, t.crashes) for t in again] == [(TaskStatus.PENDING, 0)] * 2


async def test_a_worker_with_many_leases_among_others_loses_each(
    stores: Stores,
) -> None:
    """More than one script call looks at: leases are gone through in pieces."""
    made = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(600)])
    tasks = [creation.task for creation in made if isinstance(creation, Creation)]
    for index, task in enumerate(tasks):
        await claim(stores.tasks, task, worker="dead" if index % 2 else "alive")
    assert await stores.tasks.bury("dead") == 300
    assert await stores.tasks.bury("dead") == 0
    recovered = 0
    async with asyncio.timeout(30):
        while recovered < 300:
            recovered += (await stores.tasks.sweep()).recovered
            await asyncio.sleep(0)
    page = await stores.tasks.list("default", TaskFilter(status=TaskStatus.RUNNING))
    assert {task.worker for task in page.tasks} == {"alive"}


async def test_burying_twice_or_a_stranger_changes_nothing(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    lease = (await claim(stores.tasks, task, worker="w")).lease
    assert await stores.tasks.bury("stranger") == 0
    assert await stores.tasks.bury("w") == 1
    assert await stores.tasks.bury("w") == 0
    assert (await stores.tasks.sweep()).recovered == 1
    again = (await claim(stores.tasks, task, worker="w2")).lease
    assert (lease.fence, again.fence) == (1, 2)
    assert await stores.tasks.bury("w") == 0
