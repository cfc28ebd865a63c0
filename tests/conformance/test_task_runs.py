"""Claims, leases, steps, events and ends of runs, on every store."""

from __future__ import annotations

import asyncio
import random

from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step, StepKind
from orchestrator.store import (
    Claim,
    Creation,
    LeaseState,
    RefusalReason,
)
from orchestrator.task import (
    Task,
    TaskFailure,
    TaskStatus,
)
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    AGENT,
    WORKER,
    claim,
    completed,
    event_types,
    running,
    submit,
    submitted,
    try_claim,
    until,
)

FAILURE = TaskFailure(code="rate_limited", message="Slow down.", retryable=True)
PROGRESS = NewEvent(type=EventType.PROGRESS, data={"message": "ä", "empty": []})


async def test_a_claim_starts_the_run_with_the_next_fence(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    claimed = await claim(stores.tasks, task)
    assert claimed.lease[:4] == ("default", task.id, 1, WORKER)
    assert claimed.steps == ()
    assert claimed.task == await stores.tasks.get("default", task.id)
    assert claimed.task.status is TaskStatus.RUNNING
    assert (claimed.task.attempt, claimed.task.worker) == (1, WORKER)
    assert claimed.task.started_at is not None
    assert claimed.task.due_at is None
    started = (await stores.tasks.events("default", task.id))[-1]
    assert (started.type, started.attempt) == (EventType.TASK_STARTED, 1)
    assert started.data == {"worker": WORKER, "attempt": 1}


async def test_a_later_claim_leaves_the_instant_of_the_first(stores: Stores) -> None:
    first = await claim(stores.tasks, await submitted(stores.tasks))
    await asyncio.sleep(0.01)
    await stores.tasks.release(first.lease, running_seconds=0, reason="drain")
    again = await claim(stores.tasks, first.task)
    assert again.task.started_at == first.task.started_at


async def test_a_claim_of_a_running_task_is_refused(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    await claim(stores.tasks, task)
    assert await try_claim(stores.tasks, task) is RefusalReason.LEASED
    unknown = task.model_copy(update={"id": "task-none"})
    assert await try_claim(stores.tasks, unknown) is RefusalReason.UNKNOWN


async def test_a_worker_that_does_not_serve_the_agent_is_refused(
    stores: Stores,
) -> None:
    task = await submitted(stores.tasks, agent_name="other")
    assert await try_claim(stores.tasks, task) is RefusalReason.UNSERVED
    waiting = await stores.tasks.get("default", task.id)
    assert (waiting.status, waiting.attempt) == (TaskStatus.PENDING, 0)
    assert waiting.pending_reason
    assert "other" in waiting.pending_reason


async def test_only_the_lowest_turn_of_a_conversation_runs(stores: Stores) -> None:
    tasks = stores.tasks
    first, second, third = [
        await submit(tasks, conversation_id="c", priority=priority)
        for priority in (0, 5, 9)
    ]
    assert [len(each.doorbells) for each in (first, second, third)] == [1, 0, 0]
    assert await try_claim(tasks, third.task) is RefusalReason.NOT_NEXT_TURN
    lease = (await claim(tasks, first.task)).lease
    assert await try_claim(tasks, second.task) is RefusalReason.NOT_NEXT_TURN
    (bell,) = await tasks.finish(lease, completed(lease), running_seconds=0)
    assert bell.task_id == second.task.id
    cancellation = await tasks.cancel("default", second.task.id)
    assert [bell.task_id for bell in cancellation.doorbells] == [third.task.id]
    await claim(tasks, third.task)


async def test_a_cancelled_later_turn_rings_for_nothing(stores: Stores) -> None:
    first = await submitted(stores.tasks, conversation_id="c")
    second = await submitted(stores.tasks, conversation_id="c")
    assert (await stores.tasks.cancel("default", second.id)).doorbells == ()
    await claim(stores.tasks, first)


async def test_conversations_of_two_tenants_do_not_meet(stores: Stores) -> None:
    await submitted(stores.tasks, conversation_id="c")
    other = await submit(stores.tasks, conversation_id="c", tenant="acme")
    assert other.doorbells
    await claim(stores.tasks, other.task)


async def test_renewal_answers_for_each_lease_in_order(stores: Stores) -> None:
    tasks = stores.tasks
    held, ended, asked = [await running(tasks) for _ in range(3)]
    await tasks.finish(ended, completed(ended), running_seconds=0)
    await tasks.cancel("default", asked.task_id)
    old = held._replace(fence=0)
    states = await tasks.renew([asked, held, ended, old], lease_seconds=30)
    assert states == (
        LeaseState.CANCEL_REQUESTED,
        LeaseState.HELD,
        LeaseState.LOST,
        LeaseState.LOST,
    )
    assert await tasks.renew([], lease_seconds=30) == ()


async def test_a_recorded_step_is_given_to_the_next_attempt(stores: Stores) -> None:
    tasks = stores.tasks
    lease = await running(tasks)
    for key in ("z 1", "a:2", "m"):
        step = Step(key=key, kind=StepKind.COMPLETION, outcome=[{}, []], seconds=1.5)
        assert (await tasks.record_step(lease, step)).earlier is None
    recorded = await tasks.steps("default", lease.task_id)
    assert [(each.key, each.outcome) for each in recorded] == [
        ("z 1", [{}, []]),
        ("a:2", [{}, []]),
        ("m", [{}, []]),
    ]
    assert recorded[0].attempt == 1
    assert recorded[0].recorded_at is not None
    await tasks.release(lease, running_seconds=1, reason="drain")
    claimed = await claim(tasks, await tasks.get("default", lease.task_id))
    assert claimed.steps == recorded


async def test_the_first_writer_of_a_step_wins_and_its_events_come_once(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    step = Step(key="s", kind=StepKind.CUSTOM, outcome=1)
    await stores.tasks.record_step(lease, step, [PROGRESS])
    (first,) = await stores.tasks.steps("default", lease.task_id)
    second = step.model_copy(update={"outcome": 2})
    again = await stores.tasks.record_step(lease, second, [PROGRESS])
    assert (first.outcome, again.earlier) == (1, first)
    assert (await stores.tasks.record_step(lease, step, [PROGRESS])).earlier is None
    events = await stores.tasks.events("default", lease.task_id)
    assert [event.data for event in events[3:]] == [PROGRESS.data]


async def test_events_are_numbered_without_gaps_and_read_after_any(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.append_events(lease, [PROGRESS, PROGRESS])
    await stores.tasks.append_events(lease, [])
    await stores.tasks.append_events(lease, [PROGRESS])

    async def numbers(**options: int) -> list[int]:
        events = await stores.tasks.events("default", lease.task_id, **options)
        return [event.sequence for event in events]

    assert await numbers() == [0, 1, 2, 3, 4, 5]
    assert await numbers(after=3) == [4, 5]
    assert await numbers(after=0, limit=2) == [1, 2]
    assert await numbers(after=5) == []


async def test_a_batch_of_events_that_is_repeated_adds_nothing(stores: Stores) -> None:
    lease = await running(stores.tasks)
    for batch in ("b1", "b2", "b1", "b2", None, None):
        await stores.tasks.append_events(lease, [PROGRESS], batch=batch)
    events = await stores.tasks.events("default", lease.task_id)
    assert [event.sequence for event in events[3:]] == [3, 4, 5, 6]


async def test_a_reader_waits_for_the_next_event(stores: Stores) -> None:
    lease = await running(stores.tasks)
    reader = asyncio.create_task(
        stores.tasks.events("default", lease.task_id, after=2, wait_seconds=10)
    )
    await asyncio.sleep(0)
    await stores.tasks.append_events(lease, [PROGRESS])
    (event,) = await reader
    assert event.sequence == 3
    nothing = await stores.tasks.events(
        "default", lease.task_id, after=3, wait_seconds=0.02
    )
    assert nothing == ()


async def test_nobody_waits_for_events_of_an_ended_task(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    last = (await stores.tasks.events("default", lease.task_id))[-1]
    async with asyncio.timeout(5):
        after_the_end = await stores.tasks.events(
            "default", lease.task_id, after=last.sequence, wait_seconds=60
        )
    assert after_the_end == ()


async def test_a_released_task_is_pending_and_counts_only_failures(
    stores: Stores,
) -> None:
    tasks = stores.tasks
    lease = await running(tasks)
    (bell,) = await tasks.release(lease, running_seconds=1.5, reason="drain")
    assert bell.task_id == lease.task_id
    released = await tasks.get("default", lease.task_id)
    assert released.status is TaskStatus.PENDING
    assert released.pending_reason == "drain"
    assert (released.failed_attempts, released.crashes) == (0, 0)
    assert released.running_seconds == 1.5
    lease = (await claim(tasks, released)).lease
    assert lease.fence == 2
    bells = await tasks.release(
        lease, running_seconds=1, delay_seconds=60, reason="retry", failure=FAILURE
    )
    assert bells == ()
    retrying = await tasks.get("default", lease.task_id)
    assert (retrying.failed_attempts, retrying.failure) == (1, FAILURE)
    assert await try_claim(tasks, retrying) is RefusalReason.NOT_DUE
    event = (await tasks.events("default", lease.task_id))[-1]
    assert event.type is EventType.TASK_RELEASED
    assert event.data["code"] == "rate_limited"


async def test_a_released_task_whose_cancel_was_asked_for_is_cancelled(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.cancel("default", lease.task_id)
    await stores.tasks.release(lease, running_seconds=1, reason="drain")
    task = await stores.tasks.get("default", lease.task_id)
    assert task.status is TaskStatus.CANCELLED
    assert (await event_types(stores.tasks, task))[-1] == "task.cancelled"


async def test_many_workers_run_each_task_exactly_once(stores: Stores) -> None:
    creations = await stores.tasks.create(
        [
            Task(
                agent_name=AGENT,
                conversation_id=f"c{number % 7}" if number % 2 else None,
            )
            for number in range(60)
        ]
    )
    tasks = [each.task for each in creations if isinstance(each, Creation)]
    finished: list[str] = []

    async def work(name: str, seed: int) -> None:
        order = random.Random(seed).sample(tasks, len(tasks))  # noqa: S311
        for task in order:
            claimed = await try_claim(stores.tasks, task, worker=name)
            if isinstance(claimed, Claim):
                lease = claimed.lease
                await stores.tasks.append_events(lease, [PROGRESS])
                await stores.tasks.finish(lease, completed(lease), running_seconds=0)
                finished.append(task.id)

    async def all_finished() -> bool:
        await asyncio.gather(*(work(f"w{seed}", seed) for seed in range(4)))
        return len(finished) >= len(tasks)

    await until(all_finished)
    assert sorted(finished) == sorted(task.id for task in tasks)
    for task in tasks:
        types = await event_types(stores.tasks, task)
        assert types.count("task.started") == types.count("task.completed") == 1


async def test_a_claim_tells_what_is_left_until_the_deadline(stores: Stores) -> None:
    without = await claim(stores.tasks, await submitted(stores.tasks))
    assert without.deadline_left_seconds is None
    task = await submitted(stores.tasks, deadline_seconds=600)
    await asyncio.sleep(0.05)
    left = (await claim(stores.tasks, task)).deadline_left_seconds
    assert left is not None
    assert 540 < left <= 599.96
