"""How many messages are out, and who is rung for next, on every store."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from orchestrator.store import Claim, Creation, Doorbell, RefusalReason
from orchestrator.store_limits import LONGEST_RESEND
from orchestrator.task import Task, TaskFailure, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    submit,
    submitted,
    try_claim,
    until,
    worker,
)

TINY = 0.02


async def fill(stores: Stores, *tasks: Task) -> list[Task]:
    creations = await stores.tasks.create(tasks)
    return [each.task for each in creations if isinstance(each, Creation)]


async def served(stores: Stores, first: Task) -> list[str]:
    """Claim and finish one after another as the doorbells say; return the order."""
    order: list[str] = []
    bells = deque([(first.tenant, first.id)])
    while bells:
        tenant, task_id = bells.popleft()
        claimed = await stores.tasks.claim(
            tenant, task_id, worker="w", serves=[AGENT], lease_seconds=30
        )
        assert isinstance(claimed, Claim), claimed
        order.append(claimed.task.metadata.get("name", "first"))
        lease = claimed.lease
        more = await stores.tasks.finish(lease, completed(lease), running_seconds=0)
        bells += [(b.tenant, b.task_id) for b in (*claimed.doorbells, *more)]
    return order


def named(name: str, **fields: object) -> Task:
    return Task(agent_name=AGENT, metadata={"name": name}, **fields)


async def test_only_a_window_of_messages_is_out(open_stores: OpenStores) -> None:
    stores = open_stores(dispatch_window=3)
    creations = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(10)])
    rung = [len(c.doorbells) for c in creations if isinstance(c, Creation)]
    assert rung == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert (await stores.tasks.sweep()).doorbells == ()


async def test_a_queue_has_a_window_of_its_own(open_stores: OpenStores) -> None:
    stores = open_stores(dispatch_window=1)
    assert (await submit(stores.tasks)).doorbells
    assert not (await submit(stores.tasks)).doorbells
    assert (await submit(stores.tasks, queue="other")).doorbells


async def test_live_slots_widen_the_window_of_their_queue(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=1)
    announced = worker(AGENT).model_copy(update={"slots": 2})
    for _ in range(2):
        await stores.directory.announce(announced, ttl_seconds=30)
    creations = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(10)])
    rung = [len(c.doorbells) for c in creations if isinstance(c, Creation)]
    assert sum(rung) == 8
    await stores.directory.withdraw(announced.id)
    assert not (await submit(stores.tasks)).doorbells


async def test_a_claim_makes_room_for_the_next(open_stores: OpenStores) -> None:
    stores = open_stores(dispatch_window=1)
    first, second, third = await fill(stores, *[named(str(n)) for n in range(3)])
    claimed = await claim(stores.tasks, first)
    assert [bell.task_id for bell in claimed.doorbells] == [second.id]
    claimed = await claim(stores.tasks, second)
    assert [bell.task_id for bell in claimed.doorbells] == [third.id]


async def test_the_most_urgent_is_rung_first_then_the_earliest(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=1)
    first, *_ = await fill(
        stores,
        named("first"),
        named("b", priority=4),
        named("d", priority=0),
        named("c", priority=4),
        named("a", priority=9),
    )
    assert await served(stores, first) == ["first", "a", "b", "c", "d"]


async def test_a_run_that_had_begun_goes_on_before_others_begin(
    open_stores: OpenStores,
) -> None:
    """A killed worker's runs do not queue up behind a backlog; a failed one does."""
    stores = open_stores(dispatch_window=1)
    names = ("vanished", "failed", "b")
    first, second, _, urgent = await fill(
        stores, *map(named, names), named("urgent", priority=9)
    )
    await claim(stores.tasks, first, worker="dead")
    lease = (await claim(stores.tasks, second)).lease
    failure = TaskFailure(code="boom", message="It broke; mend it.", attempt=1)
    await stores.tasks.release(
        lease, running_seconds=0, reason="retry", failure=failure
    )
    await stores.tasks.bury("dead")
    await stores.tasks.sweep()
    resumed = await stores.tasks.get("default", first.id)
    assert (resumed.status, resumed.priority) == (TaskStatus.PENDING, first.priority)
    assert await served(stores, urgent) == ["urgent", "vanished", "b", "failed"]


async def test_a_run_that_was_handed_over_and_then_failed_has_lost_its_precedence(
    stores: Stores,
) -> None:
    task = await submitted(stores.tasks, priority=4)
    failure = TaskFailure(code="boom", message="It broke; mend it.", attempt=2)
    urgencies = []
    for why in (None, failure, None):
        lease = (await claim(stores.tasks, task)).lease
        (bell,) = await stores.tasks.release(
            lease, running_seconds=0, reason="away", failure=why
        )
        urgencies.append(bell.priority)
    assert urgencies == [7, 4, 7]


async def test_tenants_share_the_line_however_much_one_submits(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=1)
    first, *_ = await fill(
        stores,
        named("first"),
        *[named(f"much{n}", tenant="much") for n in range(4)],
        *[named(f"some{n}", tenant="some") for n in range(2)],
    )
    assert await served(stores, first) == [
        "first",
        "much0",
        "some0",
        "much1",
        "some1",
        "much2",
        "much3",
    ]


async def test_a_tenant_that_comes_late_begins_where_the_others_are(
    open_stores: OpenStores,
) -> None:
    """What it did not ask for before is no credit."""
    stores = open_stores(dispatch_window=1)
    task, *_ = await fill(stores, *[named(f"much{n}", tenant="much") for n in range(7)])
    for _ in range(4):
        claimed = await claim(stores.tasks, task)
        (bell,) = claimed.doorbells
        lease = claimed.lease
        await stores.tasks.finish(lease, completed(lease), running_seconds=0)
        task = await stores.tasks.get(bell.tenant, bell.task_id)
    await fill(stores, *[named(f"late{n}", tenant="late") for n in range(3)])
    assert await served(stores, task) == [
        "much4",
        "late0",
        "much5",
        "late1",
        "much6",
        "late2",
    ]


async def test_a_cancelled_task_leaves_the_line(open_stores: OpenStores) -> None:
    stores = open_stores(dispatch_window=1)
    first, second, third = await fill(stores, *[named(str(n)) for n in range(3)])
    await stores.tasks.cancel("default", second.id)
    claimed = await claim(stores.tasks, first)
    assert [bell.task_id for bell in claimed.doorbells] == [third.id]


async def test_messages_of_cancelled_tasks_do_not_block_the_line(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=2, resend_seconds=TINY)
    *gone, last = await fill(stores, *[named(str(n)) for n in range(3)])
    for task in gone:
        await stores.tasks.cancel("default", task.id)
    bells: list[Doorbell] = []

    async def rung() -> bool:
        bells.extend((await stores.tasks.sweep()).doorbells)
        return last.id in [bell.task_id for bell in bells]

    await until(rung)
    assert await try_claim(stores.tasks, gone[0]) is RefusalReason.ENDED


async def test_a_submit_that_is_repeated_jumps_no_line(open_stores: OpenStores) -> None:
    stores = open_stores(dispatch_window=1)
    first = await submit(stores.tasks, idempotency_key="a")
    assert (await submit(stores.tasks, idempotency_key="a")).doorbells == (
        first.doorbells
    )
    assert not (await submit(stores.tasks, idempotency_key="b")).doorbells
    assert not (await submit(stores.tasks, idempotency_key="b")).doorbells


async def rung_while_others_are_taken(stores: Stores, *, priority: int) -> set[str]:
    """Return whom the sweep rings for though no moment passes without a message taken.

    So it is not the silence of its queue by which it is missed.
    """
    bells: set[str] = set()

    async def rung() -> bool:
        other = await submitted(stores.tasks, priority=priority)
        lease = (await claim(stores.tasks, other)).lease
        await stores.tasks.finish(lease, completed(lease), running_seconds=0)
        bells.update(bell.task_id for bell in (await stores.tasks.sweep()).doorbells)
        return bool(bells)

    await until(rung)
    return bells


@pytest.mark.parametrize("priority", [5, 0])
async def test_a_lost_message_is_missed_when_one_no_more_urgent_is_taken_after_it(
    open_stores: OpenStores, priority: int
) -> None:
    """Else nobody would notice it as long as others keep the queue busy."""
    stores = open_stores(resend_seconds=0.2)
    (lost,) = await fill(stores, named("lost", priority=5))
    assert await rung_while_others_are_taken(stores, priority=priority) == {lost.id}


async def test_a_lost_message_is_missed_while_slots_are_free_and_others_are_taken(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(resend_seconds=0.2)
    announced = worker(AGENT).model_copy(update={"slots": 4})
    await stores.directory.announce(announced, ttl_seconds=60)
    (lost,) = await fill(stores, named("lost", priority=0))
    assert await rung_while_others_are_taken(stores, priority=9) == {lost.id}


async def test_a_message_that_is_lost_again_and_again_is_missed_as_soon_each_time(
    open_stores: OpenStores,
) -> None:
    """While a slot is free for it: then silence is a loss, and not a busy worker."""
    losses, resend = 8, 0.05
    stores = open_stores(resend_seconds=resend)
    announced = worker(AGENT).model_copy(update={"slots": 1})
    await stores.directory.announce(announced, ttl_seconds=60)
    (lost,) = await fill(stores, named("lost"))
    begun = asyncio.get_running_loop().time()
    for _ in range(losses):

        async def rung() -> bool:
            bells = (await stores.tasks.sweep()).doorbells
            return [bell.task_id for bell in bells] == [lost.id]

        await until(rung)
    doubling = resend * sum(min(2**n, LONGEST_RESEND) for n in range(losses))
    assert resend * losses * 0.9 < asyncio.get_running_loop().time() - begun < doubling


async def test_a_lost_queue_is_found_by_its_last_message_and_rung_whole(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=8, resend_seconds=TINY)
    await fill(stores, *[named(str(n)) for n in range(30)])
    ended = 0

    async def all_ended() -> bool:
        nonlocal ended
        bells = deque((await stores.tasks.sweep()).doorbells)
        while bells:
            bell = bells.popleft()
            claimed = await stores.tasks.claim(
                "default", bell.task_id, worker="w", serves=[AGENT], lease_seconds=30
            )
            if isinstance(claimed, Claim):
                bells += claimed.doorbells
                lease = claimed.lease
                bells += await stores.tasks.finish(
                    lease, completed(lease), running_seconds=0
                )
                ended += 1
        return ended == 30

    await until(all_ended)


async def rung_for(stores: Stores, amount: int) -> deque[Doorbell]:
    """Submit tasks; return the messages that are out for them."""
    made = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(amount)])
    return deque(bell for each in made for bell in each.doorbells)


async def take_one(stores: Stores, messages: deque[Doorbell]) -> None:
    """Take messages up to one that leads to a claim, which may have more sent."""
    claimed: object = None
    while not isinstance(claimed, Claim):
        claimed = await stores.tasks.claim(
            "default",
            messages.popleft().task_id,
            worker="w",
            serves=[AGENT],
            lease_seconds=30,
        )
    messages += claimed.doorbells


async def test_a_long_queue_and_a_slow_worker_cause_no_storm_of_messages(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=16, resend_seconds=TINY)
    messages = await rung_for(stores, 200)
    longest = len(messages)
    for _ in range(20):
        await asyncio.sleep(TINY * 2)
        messages += (await stores.tasks.sweep()).doorbells
        await take_one(stores, messages)
        longest = max(longest, len(messages))
    assert longest <= 3 * 16  # a storm is a window for each of the twenty sweeps


async def test_a_message_that_its_worker_has_kept_for_long_causes_no_storm(
    open_stores: OpenStores,
) -> None:
    """It is rung for again, since later ones were taken, and then taken after all.

    That proves nothing of those between it and its repetition: they still come.
    """
    stores = open_stores(dispatch_window=16, resend_seconds=TINY)
    messages = await rung_for(stores, 200)
    kept = messages.popleft()
    repeated = 0
    for moment in range(20):
        await asyncio.sleep(TINY * 2)
        report = await stores.tasks.sweep()
        messages += report.doorbells
        repeated += report.rung_again
        if moment == 5:
            assert repeated
            messages.appendleft(kept)
        await take_one(stores, messages)
    assert repeated <= 16  # a storm is a window for each of the sweeps


async def test_a_later_turn_stands_in_no_line(open_stores: OpenStores) -> None:
    stores = open_stores(dispatch_window=1)
    first = await submitted(stores.tasks, conversation_id="c")
    second = await submitted(stores.tasks, conversation_id="c")
    other = await submitted(stores.tasks)
    claimed = await claim(stores.tasks, first)
    assert [bell.task_id for bell in claimed.doorbells] == [other.id]
    lease = claimed.lease
    assert not await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    claimed = await claim(stores.tasks, other)
    assert [bell.task_id for bell in claimed.doorbells] == [second.id]
    assert (await stores.tasks.get("default", second.id)).status is TaskStatus.PENDING


async def test_lost_messages_of_ended_tasks_take_no_room_for_ever(
    open_stores: OpenStores,
) -> None:
    """They did as long as the queue moved at all, and left a window of one."""
    stores = open_stores(dispatch_window=3, resend_seconds=60)
    lost, gone, taken = await fill(stores, *map(named, ("lost", "gone", "taken")))
    for task in (lost, gone):
        await stores.tasks.cancel("default", task.id)
    await claim(stores.tasks, taken)
    await stores.tasks.sweep()
    bells = [bell for _ in range(3) for bell in (await submit(stores.tasks)).doorbells]
    assert len(bells) == 3
