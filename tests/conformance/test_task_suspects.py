"""Who is charged when a worker vanishes, on every store."""

from __future__ import annotations

import asyncio
from time import monotonic

from orchestrator.journal import Step, StepKind
from orchestrator.store import (
    Claim,
    Doorbell,
    Lease,
    LeaseState,
    RefusalReason,
    TaskFilter,
)
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    submitted,
    sweep_until,
    try_claim,
    worker,
)

_PENDING = TaskFilter(status=TaskStatus.PENDING)


async def vanish(stores: Stores, *tasks: Task, worker: str = "w") -> list[Task]:
    """Claim tasks in one worker and let it vanish with them, in order."""
    for task in tasks:
        await claim(stores.tasks, task, worker=worker)
    await stores.tasks.bury(worker)
    return [await sweep_until(stores.tasks, task, TaskStatus.PENDING) for task in tasks]


def facts(tasks: list[Task]) -> list[tuple[int, bool]]:
    return [(task.crashes, task.suspect) for task in tasks]


async def suspect(stores: Stores, **fields: object) -> Task:
    (task,) = await vanish(stores, await submitted(stores.tasks, **fields))
    return task


async def prime_suspects(stores: Stores, count: int) -> list[Task]:
    """Let two workers vanish with the same runs, which are then taken one by one."""
    tasks = [await submitted(stores.tasks) for _ in range(count)]
    return await vanish(stores, *await vanish(stores, *tasks, worker="u"), worker="v")


async def test_every_run_of_a_vanished_worker_is_an_uncharged_suspect(
    stores: Stores,
) -> None:
    tasks = [await submitted(stores.tasks) for _ in range(3)]
    assert facts(await vanish(stores, *tasks)) == [(0, True)] * 3


async def test_suspects_run_together_and_at_once(stores: Stores) -> None:
    """Most processes die for another reason: their runs must not queue up for it."""
    tasks = await vanish(stores, *[await submitted(stores.tasks) for _ in range(5)])
    for task in tasks:
        await claim(stores.tasks, task, worker="x")


async def test_several_suspects_of_one_death_become_prime_ones_uncharged(
    stores: Stores,
) -> None:
    tasks = [await submitted(stores.tasks) for _ in range(2)]
    bystander = await submitted(stores.tasks)
    suspects = await vanish(stores, *tasks)
    crashed = await vanish(stores, bystander, *suspects, worker="x")
    assert facts(crashed) == [(0, False), (0, True), (0, True)]
    await claim(stores.tasks, crashed[1], worker="y")
    refused = await try_claim(stores.tasks, crashed[2], worker="y")
    assert refused is RefusalReason.SUSPECT


async def test_a_worker_that_vanishes_with_a_suspect_charges_it_alone(
    stores: Stores,
) -> None:
    poison = await suspect(stores)
    bystanders = [await submitted(stores.tasks) for _ in range(2)]
    tasks = [bystanders[0], poison, bystanders[1]]
    assert facts(await vanish(stores, *tasks, worker="x")) == [
        (0, False),
        (1, True),
        (0, False),
    ]


async def test_a_worker_takes_one_prime_suspect_aboard(stores: Stores) -> None:
    first, second = await prime_suspects(stores, 2)
    lease = (await claim(stores.tasks, first, worker="x")).lease
    refused = await try_claim(stores.tasks, second, worker="x")
    assert refused is RefusalReason.SUSPECT
    waiting = await stores.tasks.get("default", second.id)
    assert (waiting.status, waiting.attempt) == (TaskStatus.PENDING, 2)
    await claim(stores.tasks, second, worker="y")
    healthy = await submitted(stores.tasks)
    await claim(stores.tasks, healthy, worker="x")
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)


async def test_a_recorded_step_clears_a_suspect_and_rings_for_the_next(
    stores: Stores,
) -> None:
    first, *others = await prime_suspects(stores, 3)
    lease = (await claim(stores.tasks, first, worker="x")).lease
    for other in others:
        refused = await try_claim(stores.tasks, other, worker="x")
        assert refused is RefusalReason.SUSPECT
    recorded = await stores.tasks.record_step(
        lease, Step(key="s", kind=StepKind.CUSTOM)
    )
    assert len(recorded.doorbells) == 1
    assert not (await stores.tasks.get("default", first.id)).suspect
    rung = await stores.tasks.get("default", recorded.doorbells[0].task_id)
    await claim(stores.tasks, rung, worker="x")


async def test_a_cleared_run_is_a_bystander_of_the_next_crash(stores: Stores) -> None:
    tasks = [await submitted(stores.tasks) for _ in range(2)]
    poison, healthy = await vanish(stores, *tasks)
    lease = (await claim(stores.tasks, healthy, worker="x")).lease
    await stores.tasks.record_step(lease, Step(key="s", kind=StepKind.CUSTOM))
    await claim(stores.tasks, poison, worker="x")
    await stores.tasks.bury("x")
    crashed = [
        await sweep_until(stores.tasks, task, TaskStatus.PENDING)
        for task in (healthy, poison)
    ]
    assert facts(crashed) == [(0, False), (1, True)]


async def test_a_drain_charges_nobody_and_clears_nobody(stores: Stores) -> None:
    task = await suspect(stores)
    lease = (await claim(stores.tasks, task, worker="x")).lease
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    released = await stores.tasks.get("default", task.id)
    assert facts([released]) == [(0, True)]
    other = await suspect(stores)
    await claim(stores.tasks, other, worker="x")


async def test_an_ended_suspect_rings_for_the_next(stores: Stores) -> None:
    first, second = await prime_suspects(stores, 2)
    lease = (await claim(stores.tasks, first, worker="x")).lease
    assert await try_claim(stores.tasks, second, worker="x") is RefusalReason.SUSPECT
    bells = await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    assert [bell.task_id for bell in bells] == [second.id]


async def test_one_poison_among_many_healthy_runs_fails_alone(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(max_crashes=2)
    await stores.directory.announce(worker(AGENT), ttl_seconds=30)
    tasks = [await submitted(stores.tasks) for _ in range(12)]
    poison = tasks[5].id
    generation = 0
    ended = 0
    async with asyncio.timeout(20):
        while ended < len(tasks):
            generation += 1
            ended += await _live_until_poisoned(stores, f"w{generation}", poison)
    records = [await stores.tasks.get("default", task.id) for task in tasks]
    failed = [task.id for task in records if task.status is TaskStatus.FAILED]
    assert failed == [poison]
    assert all(task.crashes == 0 for task in records if task.id != poison)
    assert all(
        task.status is TaskStatus.COMPLETED for task in records if task.id != poison
    )


async def _live_until_poisoned(stores: Stores, name: str, poison: str) -> int:
    """Take all that can be had; a process that takes the poison dies with all."""
    leases: list[Lease] = []
    dead = False
    for task in (await stores.tasks.list("default", _PENDING, limit=500)).tasks:
        claimed = await try_claim(stores.tasks, task, worker=name)
        if isinstance(claimed, Claim):
            leases.append(claimed.lease)
            dead = dead or task.id == poison
    for lease in [] if dead else leases:
        await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    if dead:
        await stores.tasks.bury(name)
    return (0 if dead else len(leases)) + (await stores.tasks.sweep()).ended


async def test_a_run_that_blocked_its_loop_is_charged_alone(stores: Stores) -> None:
    tasks = [await submitted(stores.tasks) for _ in range(3)]
    leases = [(await claim(stores.tasks, task)).lease for task in tasks]
    await stores.tasks.surrender(leases, blamed=leases[1])
    given = [
        await sweep_until(stores.tasks, task, TaskStatus.PENDING) for task in tasks
    ]
    assert facts(given) == [(0, False), (1, True), (0, False)]


async def test_leases_given_up_without_a_blocker_make_suspects(
    stores: Stores,
) -> None:
    tasks = [await submitted(stores.tasks) for _ in range(2)]
    leases = [(await claim(stores.tasks, task)).lease for task in tasks]
    await stores.tasks.surrender([*leases, leases[0]._replace(fence=7)], blamed=None)
    given = [
        await sweep_until(stores.tasks, task, TaskStatus.PENDING) for task in tasks
    ]
    assert facts(given) == [(0, True), (0, True)]


async def test_prime_suspects_go_on_in_an_eighth_of_the_company_they_died_in(
    stores: Stores,
) -> None:
    """Hundreds that a poison took down twice must not queue up one by one."""
    first, *others = await prime_suspects(stores, 17)
    leases = [(await claim(stores.tasks, first, worker="x")).lease]
    leases += [(await claim(stores.tasks, others[0], worker="x")).lease]
    assert await try_claim(stores.tasks, others[1], worker="x") is RefusalReason.SUSPECT
    await stores.tasks.record_step(leases[0], Step(key="s", kind=StepKind.CUSTOM))
    await claim(stores.tasks, others[1], worker="x")
    await stores.tasks.bury("x")
    crashed = [
        await sweep_until(stores.tasks, task, TaskStatus.PENDING)
        for task in (first, *others[:2])
    ]
    assert facts(crashed) == [(0, False), (0, True), (0, True)]
    await claim(stores.tasks, crashed[1], worker="y")
    refused = await try_claim(stores.tasks, crashed[2], worker="y")
    assert refused is RefusalReason.SUSPECT
    in_company = await try_claim(stores.tasks, others[2], worker="y")
    assert in_company is RefusalReason.SUSPECT


async def test_a_hundred_prime_suspects_are_cleared_in_a_few_rounds(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(max_crashes=1)
    await stores.directory.announce(worker(AGENT), ttl_seconds=30)
    tasks = await prime_suspects(stores, 100)
    poison = tasks[50].id
    rounds = ended = 0
    async with asyncio.timeout(60):
        while ended < len(tasks):
            rounds += 1
            ended += await _live_until_poisoned(stores, f"w{rounds}", poison)
    records = [await stores.tasks.get("default", task.id) for task in tasks]
    assert [t.id for t in records if t.status is TaskStatus.FAILED] == [poison]
    assert rounds <= 100 // 12 + 12 + 2


async def _one_runs_and_two_wait(stores: Stores) -> Lease:
    """Three prime suspects; the one that runs has a lease that is nearly over."""
    first, *others = await prime_suspects(stores, 3)
    lease = (await claim(stores.tasks, first, worker="x", lease_seconds=1.5)).lease
    for other in others:
        await try_claim(stores.tasks, other, worker="x")
    return lease


async def test_a_prime_suspect_holds_its_place_for_as_long_as_its_lease_lives(
    stores: Stores,
) -> None:
    """Steps may take minutes: nobody is rung for in vain meanwhile."""
    lease = await _one_runs_and_two_wait(stores)
    short = monotonic() + 1.6
    assert LeaseState.LOST not in await stores.tasks.renew([lease], lease_seconds=30)
    bells: list[Doorbell] = []
    while monotonic() < short:
        bells += (await stores.tasks.sweep()).doorbells
        await asyncio.sleep(0.02)
    assert bells == []
    step = Step(key="s", kind=StepKind.CUSTOM)
    assert len((await stores.tasks.record_step(lease, step)).doorbells) == 1


async def test_a_prime_suspect_whose_lease_ran_out_frees_its_place(
    stores: Stores,
) -> None:
    await _one_runs_and_two_wait(stores)
    bells: list[Doorbell] = []
    async with asyncio.timeout(10):
        while not bells:
            bells += (await stores.tasks.sweep()).doorbells
            await asyncio.sleep(0.02)
    rung = await stores.tasks.get("default", bells[0].task_id)
    await claim(stores.tasks, rung, worker="y")


async def test_a_prime_suspect_whose_worker_vanished_frees_its_place_at_once(
    stores: Stores,
) -> None:
    first, second = await prime_suspects(stores, 2)
    lease = (await claim(stores.tasks, first, worker="x", lease_seconds=3600)).lease
    assert await try_claim(stores.tasks, second, worker="x") is RefusalReason.SUSPECT
    await stores.tasks.bury(lease.worker)
    bells: list[Doorbell] = []
    async with asyncio.timeout(10):
        while not bells:
            bells += (await stores.tasks.sweep()).doorbells
            await asyncio.sleep(0.02)


async def test_a_prime_suspect_that_ends_before_its_claim_frees_its_place(
    stores: Stores,
) -> None:
    first, *others = await prime_suspects(stores, 3)
    lease = (await claim(stores.tasks, first, worker="x")).lease
    for other in others:
        await try_claim(stores.tasks, other, worker="x")
    step = Step(key="s", kind=StepKind.CUSTOM)
    (rung,) = (await stores.tasks.record_step(lease, step)).doorbells
    (waiting,) = {other.id for other in others} - {rung.task_id}
    bells = [*(await stores.tasks.cancel("default", rung.task_id)).doorbells]
    async with asyncio.timeout(10):
        while waiting not in {bell.task_id for bell in bells}:
            bells += (await stores.tasks.sweep()).doorbells
            await asyncio.sleep(0.02)
