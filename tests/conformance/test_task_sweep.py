"""What a sweep does, on every store; periods are tiny, and waits have a deadline."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.errors import LeaseLost, TaskNotFound
from orchestrator.store import Doorbell, RefusalReason
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    WORKER,
    claim,
    completed,
    event_types,
    running,
    submit,
    submitted,
    sweep_until,
    try_claim,
    until,
    worker,
)

TINY = 0.02
WHILE = 0.5
"""Long enough for the steps that come before it ends, on an idle machine."""
STEPS_IN_A_WHILE = 10
"""How often a submit with its claim fits into a while, however busy the machine is."""


async def a_while(stores: Stores) -> float:
    """Take the steps once and return a period that is long compared to them."""
    started = time.monotonic()
    lease = await running(stores.tasks)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    return max(WHILE, STEPS_IN_A_WHILE * (time.monotonic() - started))


async def bells_of(stores: Stores, *, at_least: int) -> list[Doorbell]:
    """Sweep until so many doorbells have come."""
    bells: list[Doorbell] = []

    async def enough() -> bool:
        bells.extend((await stores.tasks.sweep()).doorbells)
        return len(bells) >= at_least

    await until(enough)
    return bells


async def lose_lease(stores: Stores, task: Task, *, worker: str = WORKER) -> None:
    """Claim with a tiny lease and vanish."""
    await claim(stores.tasks, task, worker=worker, lease_seconds=TINY)


async def test_a_sweep_with_nothing_overdue_does_nothing(stores: Stores) -> None:
    await submitted(stores.tasks)
    await running(stores.tasks)
    report = await stores.tasks.sweep()
    assert report.doorbells == ()
    assert (report.recovered, report.ended, report.rung_again) == (0, 0, 0)


async def test_an_expired_lease_is_taken_back_and_rung(stores: Stores) -> None:
    task = await submitted(stores.tasks, tenant="acme", queue="fast")
    lease = (await claim(stores.tasks, task, lease_seconds=TINY)).lease
    (bell,) = await bells_of(stores, at_least=1)
    assert bell[:5] == ("acme", task.id, AGENT, "fast", 7), (
        "it goes on before others begin"
    )
    recovered = await stores.tasks.get("acme", task.id)
    assert recovered.status is TaskStatus.PENDING
    assert (recovered.crashes, recovered.failed_attempts) == (0, 0)
    assert recovered.suspect
    assert recovered.running_seconds == pytest.approx(TINY, abs=0.005)
    assert recovered.pending_reason
    with pytest.raises(LeaseLost):
        await stores.tasks.finish(lease, completed(lease), running_seconds=1)
    again = await claim(stores.tasks, recovered)
    assert again.lease.fence == 2


async def test_a_lost_run_counts_as_running_as_long_as_its_lease(
    stores: Stores,
) -> None:
    """However late a sweep finds it: nobody knows that it ran after that."""
    task = await submitted(stores.tasks)
    await claim(stores.tasks, task, lease_seconds=0.02)
    await asyncio.sleep(0.1)
    lost = await sweep_until(stores.tasks, task, TaskStatus.PENDING)
    assert lost.running_seconds == pytest.approx(0.02, abs=0.002)


async def test_a_renewed_lease_is_not_taken_back(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    lease = (await claim(stores.tasks, task, lease_seconds=TINY)).lease
    await stores.tasks.renew([lease], lease_seconds=60)
    await asyncio.sleep(TINY * 1.5)
    assert (await stores.tasks.sweep()).recovered == 0
    await stores.tasks.finish(lease, completed(lease), running_seconds=1)


async def test_a_crash_loop_ends_failed(open_stores: OpenStores) -> None:
    stores = open_stores(max_crashes=2)
    await stores.directory.announce(worker(AGENT), ttl_seconds=30)
    task = await submitted(stores.tasks, conversation_id="c")
    waiting = await submitted(stores.tasks, conversation_id="c")
    # The dead do not claim again: what is claimed within the millisecond in which its
    # worker's lease ended counts as taken down with that.
    for name in ("first", "second"):
        await lose_lease(stores, task, worker=name)
        await sweep_until(stores.tasks, task, TaskStatus.PENDING)
    await lose_lease(stores, task, worker="third")
    bells = await bells_of(stores, at_least=1)
    assert [bell.task_id for bell in bells] == [waiting.id]
    ended = await stores.tasks.get("default", task.id)
    assert ended.status is TaskStatus.FAILED
    assert ended.failure is not None
    assert (ended.failure.code, ended.failure.attempt) == ("crash_loop", 3)
    assert (await event_types(stores.tasks, task))[-1] == "task.failed"
    info = await stores.directory.find(AGENT)
    assert info is not None
    assert info.health.last_failure_code == "crash_loop"


async def test_a_vanished_worker_confirms_a_cancel(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    await lose_lease(stores, task)
    await stores.tasks.cancel("default", task.id)
    ended = await sweep_until(stores.tasks, task, TaskStatus.CANCELLED)
    assert ended.crashes == 0


@pytest.mark.parametrize(
    ("limit", "code"),
    [("deadline_seconds", "deadline"), ("time_limit_seconds", "time_limit")],
)
async def test_a_lost_run_past_its_limit_is_timed_out(
    stores: Stores, limit: str, code: str
) -> None:
    while_seconds = await a_while(stores)
    task = await submitted(stores.tasks, **{limit: while_seconds})
    await claim(stores.tasks, task, lease_seconds=while_seconds)
    ended = await sweep_until(stores.tasks, task, TaskStatus.TIMED_OUT)
    assert ended.failure is not None
    assert ended.failure.code == code


@pytest.mark.parametrize("limit", ["expires_seconds", "deadline_seconds"])
async def test_a_task_that_waited_too_long_expires_by_a_sweep(
    stores: Stores, limit: str
) -> None:
    task = await submitted(stores.tasks, conversation_id="c", **{limit: TINY})
    waiting = await submitted(stores.tasks, conversation_id="c")
    (bell,) = await bells_of(stores, at_least=1)
    assert bell.task_id == waiting.id
    ended = await stores.tasks.get("default", task.id)
    assert ended.status is TaskStatus.FAILED
    assert ended.failure is not None
    assert ended.failure.code == "expired"


async def test_a_task_that_waited_too_long_expires_by_its_claim(
    stores: Stores,
) -> None:
    task = await submitted(stores.tasks, conversation_id="c", expires_seconds=TINY)
    waiting = await submitted(stores.tasks, conversation_id="c")
    await asyncio.sleep(TINY * 1.5)
    assert await try_claim(stores.tasks, task) is RefusalReason.EXPIRED
    ended = await stores.tasks.get("default", task.id)
    assert ended.status is TaskStatus.FAILED
    (bell,) = (await stores.tasks.sweep()).doorbells
    assert bell.task_id == waiting.id


async def test_a_delayed_task_expires_by_its_wait_after_the_delay(
    stores: Stores,
) -> None:
    """Else one whose delay is longer than `expires` could never run."""
    far = datetime.now(UTC) + timedelta(minutes=5)
    waits = await submitted(stores.tasks, expires_seconds=TINY, not_before=far)
    near = datetime.now(UTC) + timedelta(seconds=TINY)
    expires = await submitted(stores.tasks, expires_seconds=TINY, not_before=near)
    ended = await sweep_until(stores.tasks, expires, TaskStatus.FAILED)
    assert ended.failure is not None
    assert ended.failure.code == "expired"
    still = await stores.tasks.get("default", waits.id)
    assert still.status is TaskStatus.PENDING


async def test_who_expires_is_told_what_the_task_waited_for(stores: Stores) -> None:
    task = await submitted(stores.tasks, deadline_seconds=0.5)
    lease = (await claim(stores.tasks, task)).lease
    reason = 'waits for endpoint "a" (cool down)'
    await stores.tasks.release(
        lease, running_seconds=0, delay_seconds=600, reason=reason
    )
    ended = await sweep_until(stores.tasks, task, TaskStatus.FAILED)
    assert ended.failure is not None
    assert f"had ended ({reason}); raise deadline" in ended.failure.message


async def test_expires_bounds_only_the_wait_for_the_first_claim(
    stores: Stores,
) -> None:
    while_seconds = await a_while(stores)
    task = await submitted(stores.tasks, expires_seconds=while_seconds)
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    await asyncio.sleep(while_seconds * 1.1)
    assert (await stores.tasks.sweep()).ended == 0
    await claim(stores.tasks, task)


async def test_a_delayed_task_is_rung_when_it_is_due(stores: Stores) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=await a_while(stores))
    task = await submitted(stores.tasks, not_before=soon)
    assert (await stores.tasks.sweep()).doorbells == ()
    (bell,) = await bells_of(stores, at_least=1)
    assert bell.task_id == task.id
    assert datetime.now(UTC) >= soon
    await claim(stores.tasks, task)


async def test_a_released_task_is_rung_after_its_delay(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.release(
        lease, running_seconds=0, delay_seconds=TINY, reason="retry"
    )
    (bell,) = await bells_of(stores, at_least=1)
    assert bell.task_id == lease.task_id


async def test_a_task_whose_message_seems_lost_is_rung_again_ever_more_rarely(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(resend_seconds=TINY)
    creation = await submit(stores.tasks)
    begun = asyncio.get_running_loop().time()
    bells = await bells_of(stores, at_least=3)
    assert set(bells) == set(creation.doorbells)
    waited = asyncio.get_running_loop().time() - begun
    assert waited >= TINY * (1 + 2 + 4) * 0.9


async def test_ringing_again_is_reported(open_stores: OpenStores) -> None:
    stores = open_stores(resend_seconds=TINY)
    await submitted(stores.tasks)
    await asyncio.sleep(TINY * 1.5)
    report = await stores.tasks.sweep()
    assert (report.rung_again, len(report.doorbells)) == (1, 1)


async def test_a_later_turn_is_not_rung_again(open_stores: OpenStores) -> None:
    stores = open_stores(resend_seconds=TINY)
    lease = await running(stores.tasks, conversation_id="c")
    await submitted(stores.tasks, conversation_id="c")
    await asyncio.sleep(TINY * 1.5)
    assert (await stores.tasks.sweep()).doorbells == ()
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)


async def test_a_running_or_ended_task_is_not_rung_again(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(resend_seconds=TINY)
    await running(stores.tasks)
    lease = await running(stores.tasks)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    await asyncio.sleep(TINY * 1.5)
    assert (await stores.tasks.sweep()).doorbells == ()


async def test_a_sweep_is_bounded(open_stores: OpenStores) -> None:
    stores = open_stores()
    await stores.tasks.sweep()
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    await stores.tasks.create(
        [Task(agent_name=AGENT, not_before=soon) for _ in range(5)]
    )
    await asyncio.sleep(0.4)
    found = []
    for _ in range(3):
        report = await stores.tasks.sweep(limit=2)
        found.append((len(report.doorbells), report.more))
    assert found == [(2, True), (2, True), (1, False)]


async def with_three_to_forget(open_stores: OpenStores) -> Stores:
    stores = open_stores(result_ttl_seconds=0.01)
    for _ in range(3):
        lease = await running(stores.tasks)
        await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    await asyncio.sleep(0.02)
    return stores


async def test_a_sweep_that_forgets_as_much_as_it_may_tells_so(
    open_stores: OpenStores,
) -> None:
    stores = await with_three_to_forget(open_stores)
    assert [(await stores.tasks.sweep(limit=2)).more for _ in range(2)] == [True, False]


async def test_a_sweep_that_only_looked_at_messages_that_are_out_is_not_in_haste(
    open_stores: OpenStores,
) -> None:
    """Else a large fleet that is busy would be swept without a pause."""
    stores = open_stores(resend_seconds=TINY)
    await stores.tasks.create([Task(agent_name=AGENT) for _ in range(5)])
    await asyncio.sleep(TINY * 1.5)
    assert not (await stores.tasks.sweep(limit=4)).more


async def test_of_sweeps_that_forget_the_same_one_alone_goes_on(
    open_stores: OpenStores,
) -> None:
    """Else each of a fleet's processes would do all of a backlog beside the others."""
    stores = await with_three_to_forget(open_stores)
    reports = await asyncio.gather(*(stores.tasks.sweep(limit=2) for _ in range(4)))
    assert [report.more for report in reports].count(True) == 1


async def test_sweeps_at_once_take_a_lease_back_once(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    await lose_lease(stores, task)
    await asyncio.sleep(TINY * 1.5)
    reports = await asyncio.gather(*(stores.tasks.sweep() for _ in range(5)))
    assert sum(report.recovered for report in reports) == 1
    assert sum(len(report.doorbells) for report in reports) == 1


async def test_no_kind_of_overdue_task_starves_another(open_stores: OpenStores) -> None:
    stores = open_stores(result_ttl_seconds=TINY)
    for _ in range(2):
        await lose_lease(stores, await submitted(stores.tasks))
    ended = await submitted(stores.tasks)
    await stores.tasks.cancel("default", ended.id)
    await asyncio.sleep(TINY * 2)
    assert (await stores.tasks.sweep(limit=1)).recovered == 1
    with pytest.raises(TaskNotFound):
        await stores.tasks.get("default", ended.id)
