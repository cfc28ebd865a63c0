"""Accepting, reading and cancelling tasks, on every store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from conversations.errors import ConversationBusy
from orchestrator.errors import (
    AgentNotFound,
    IdempotencyConflict,
    LeaseLost,
    TaskNotFound,
)
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step, StepKind
from orchestrator.store import Creation, RefusalReason, TaskFilter
from orchestrator.task import RetryPolicy, StopReason, Task, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    WORKER,
    claim,
    completed,
    event_types,
    failed,
    running,
    submit,
    submitted,
    try_claim,
    until,
    worker,
)

FULL = {
    "input": {"query": "ä 🙂", "empty": [], "nothing": {}, "deep": [[1.5, None, True]]},
    "parameters": {"temperature": 0.5},
    "context": {"user": "u1"},
    "agent_version": "7",
    "conversation_id": "conv-1",
    "queue": "fast",
    "priority": 9,
    "idempotency_key": "key 1:ä",
    "not_before": datetime(2020, 1, 1, tzinfo=UTC),
    "expires_seconds": 60.5,
    "deadline_seconds": 600,
    "soft_time_limit_seconds": 10,
    "time_limit_seconds": 20,
    "retry": RetryPolicy(max_attempts=5),
    "tags": ("red", "two words: ä"),
    "metadata": {"order": 1},
}


async def test_a_created_task_is_returned_as_stored(stores: Stores) -> None:
    creation = await submit(stores.tasks, **FULL)
    task = creation.task
    assert creation.created
    assert task == await stores.tasks.get("default", task.id)
    assert task.model_dump(include=FULL.keys()) == Task(
        agent_name=AGENT, **FULL
    ).model_dump(include=FULL.keys())
    assert task.status is TaskStatus.PENDING
    assert task.created_at is not None
    assert abs(task.created_at - datetime.now(UTC)) < timedelta(seconds=5)
    assert task.due_at == task.created_at


async def test_a_created_task_rings_with_what_a_message_needs(stores: Stores) -> None:
    creation = await submit(
        stores.tasks, tenant="acme", queue="fast", priority=9, traceparent="t"
    )
    (bell,) = creation.doorbells
    assert bell == ("acme", creation.task.id, AGENT, "fast", 9, "t")


async def test_the_first_events_are_created_and_queued(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    events = await stores.tasks.events("default", task.id)
    assert [event.type.value for event in events] == ["task.created", "task.queued"]
    assert [event.sequence for event in events] == [0, 1]
    assert [event.attempt for event in events] == [0, 0]


async def test_a_task_that_is_not_due_does_not_ring(stores: Stores) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    creation = await submit(stores.tasks, not_before=later)
    assert creation.doorbells == ()
    due_at = creation.task.due_at
    assert due_at is not None
    assert abs(due_at - later) < timedelta(seconds=1)
    assert await try_claim(stores.tasks, creation.task) is RefusalReason.NOT_DUE


async def test_many_tasks_are_accepted_in_one_call_each_on_its_own(
    stores: Stores,
) -> None:
    await stores.directory.announce(worker(AGENT), ttl_seconds=30)
    names = [AGENT, "unknown", AGENT]
    first, refused, last = await stores.tasks.create(
        [Task(agent_name=name) for name in names]
    )
    assert isinstance(first, Creation)
    assert isinstance(refused, AgentNotFound)
    assert isinstance(last, Creation)
    assert await stores.tasks.create([]) == ()


async def test_submitting_the_same_task_again_adds_nothing(stores: Stores) -> None:
    task = Task(agent_name=AGENT)
    first = await submit(stores.tasks, id=task.id)
    again = await submit(stores.tasks, id=task.id)
    assert not again.created
    assert again.task == first.task
    assert again.doorbells == first.doorbells
    assert len(await stores.tasks.events("default", task.id)) == 2


async def test_the_id_of_another_task_is_a_conflict(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    other = Task(agent_name=AGENT, id=task.id, input={"other": 1})
    (refused,) = await stores.tasks.create([other])
    assert isinstance(refused, IdempotencyConflict)


async def test_an_equal_request_with_the_same_key_returns_the_earlier_task(
    stores: Stores,
) -> None:
    first = await submit(stores.tasks, idempotency_key="k", input={"a": 1, "b": 2})
    again = await submit(
        stores.tasks,
        idempotency_key="k",
        input={"b": 2, "a": 1},
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert again.task.id == first.task.id
    assert not again.created
    assert again.doorbells == first.doorbells


async def test_another_request_with_the_same_key_is_a_conflict(stores: Stores) -> None:
    first = await submitted(stores.tasks, idempotency_key="k", input={"a": 1})
    (refused,) = await stores.tasks.create(
        [Task(agent_name=AGENT, idempotency_key="k", input={"a": 2})]
    )
    assert isinstance(refused, IdempotencyConflict)
    assert refused.task_id == first.id
    other_tenant = await submit(
        stores.tasks, tenant="acme", idempotency_key="k", input={"a": 2}
    )
    assert other_tenant.created


async def test_a_key_leads_to_its_task_however_long_that_takes(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(idempotency_ttl_seconds=0.001)
    first = await submitted(stores.tasks, idempotency_key="k")
    lease = (await claim(stores.tasks, first)).lease
    await asyncio.sleep(0.01)
    again = await submit(stores.tasks, idempotency_key="k")
    assert (again.task.id, again.created) == (first.id, False)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)


async def test_a_key_is_free_again_some_time_after_the_end(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(idempotency_ttl_seconds=0.02)
    first = await submitted(stores.tasks, idempotency_key="k")
    await stores.tasks.cancel("default", first.id)

    async def accepted() -> bool:
        return (await submit(stores.tasks, idempotency_key="k")).task.id != first.id

    await until(accepted)


async def test_equal_cacheable_requests_share_one_run_and_its_answer(
    stores: Stores,
) -> None:
    request = {"cache_ttl_seconds": 60, "input": {"q": 1}}
    first = await submitted(stores.tasks, **request)
    in_flight = await submit(stores.tasks, **request)
    assert (in_flight.task.id, in_flight.created) == (first.id, False)
    assert in_flight.doorbells == ()
    lease = (await claim(stores.tasks, first)).lease
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    answered = await submitted(stores.tasks, **request)
    assert answered.id == first.id
    assert answered.result is not None


@pytest.mark.parametrize(
    "other",
    [
        {"input": {"q": 2}},
        {"parameters": {"p": 1}},
        {"context": {"user": 2}},
        {"after": ("task-before",)},  # whose answers stand in the prompt
        {"after_failure": "run"},
        {"agent_version": "2"},
        {"tenant": "acme"},
        {"cache_ttl_seconds": None},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_other_requests_share_nothing(
    stores: Stores, other: dict[str, object]
) -> None:
    request = {"cache_ttl_seconds": 60, "input": {"q": 1}}
    await submitted(stores.tasks, **request)
    assert (await submit(stores.tasks, **request | other)).created


async def test_failed_cancelled_and_partial_tasks_are_not_shared(
    stores: Stores,
) -> None:
    request = {"cache_ttl_seconds": 60}
    lease = await running(stores.tasks, **request)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    cancelled = await submit(stores.tasks, **request)
    assert cancelled.created
    await stores.tasks.cancel("default", cancelled.task.id)
    partial = await submit(stores.tasks, **request)
    assert partial.created
    lease = (await claim(stores.tasks, partial.task)).lease
    ending = completed(lease, partial=True, stop_reason=StopReason.MAX_TURNS)
    await stores.tasks.finish(lease, ending, running_seconds=0)
    assert (await submit(stores.tasks, **request)).created


async def test_a_delayed_task_is_not_shared_before_it_is_due(stores: Stores) -> None:
    request = {"cache_ttl_seconds": 60}
    later = datetime.now(UTC) + timedelta(hours=1)
    delayed = await submitted(stores.tasks, **request, not_before=later)
    prompt = await submit(stores.tasks, **request)
    assert (prompt.created, prompt.task.id != delayed.id) == (True, True)
    shared = await submit(stores.tasks, **request)
    assert shared.task.id == prompt.task.id


async def test_an_answer_is_shared_no_longer_than_asked(stores: Stores) -> None:
    lease = await running(stores.tasks, cache_ttl_seconds=60)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)

    async def accepted() -> bool:
        return (await submit(stores.tasks, cache_ttl_seconds=0.001)).created

    await until(accepted)


async def test_an_unknown_agent_is_refused_with_the_nearest_names(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(known_agents=["reviewer"])
    await stores.directory.announce(worker(AGENT), ttl_seconds=30)
    (refused,) = await stores.tasks.create([Task(agent_name="reseacher")])
    assert isinstance(refused, AgentNotFound)
    assert AGENT in refused.nearest
    assert (await submit(stores.tasks, agent_name="reviewer")).created
    page = await stores.tasks.list("default", TaskFilter())
    assert [task.agent_name for task in page.tasks] == ["reviewer"]


async def test_every_agent_is_accepted_while_none_was_announced(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(known_agents=["reviewer"])
    assert (await submit(stores.tasks, agent_name="anything")).created


async def test_reject_refuses_a_conversation_with_an_unfinished_task(
    stores: Stores,
) -> None:
    first = await submitted(stores.tasks, conversation_id="c")
    rejecting = Task(agent_name=AGENT, conversation_id="c", when_busy="reject")
    (refused,) = await stores.tasks.create([rejecting])
    assert isinstance(refused, ConversationBusy)
    with pytest.raises(TaskNotFound):
        await stores.tasks.get("default", rejecting.id)
    await stores.tasks.cancel("default", first.id)
    (accepted,) = await stores.tasks.create([rejecting])
    assert isinstance(accepted, Creation)


async def test_ended_tasks_are_forgotten_after_their_time(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(result_ttl_seconds=0.02)
    kept = await submitted(stores.tasks)
    task = await submitted(stores.tasks, idempotency_key="k", tags=("t",))
    await stores.tasks.cancel("default", task.id)

    async def gone() -> bool:
        await stores.tasks.sweep()
        page = await stores.tasks.list("default", TaskFilter())
        return [listed.id for listed in page.tasks] == [kept.id]

    await until(gone)
    with pytest.raises(TaskNotFound):
        await stores.tasks.get("default", task.id)
    assert (await submit(stores.tasks, idempotency_key="k")).created


async def test_cancelling_a_pending_task_ends_it(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    cancelled = (await stores.tasks.cancel("default", task.id)).task
    assert cancelled.status is TaskStatus.CANCELLED
    assert cancelled.finished_at is not None
    assert await try_claim(stores.tasks, task) is RefusalReason.ENDED
    assert (await stores.tasks.cancel("default", task.id)).task == cancelled
    assert (await event_types(stores.tasks, task))[2:] == ["task.cancelled"]


async def test_cancelling_a_running_task_tells_its_worker(stores: Stores) -> None:
    task = await submitted(stores.tasks, tenant="acme")
    await claim(stores.tasks, task)
    asked = (await stores.tasks.cancel("acme", task.id)).task
    assert asked.status is TaskStatus.RUNNING
    assert asked.cancel_requested_at is not None
    assert (await stores.tasks.cancel("acme", task.id)).task == asked
    pushed = await stores.tasks.wait_cancel_requests(WORKER, wait_seconds=5)
    assert pushed == (("acme", task.id),)
    assert await stores.tasks.wait_cancel_requests(WORKER, wait_seconds=0.01) == ()
    assert (await event_types(stores.tasks, task)).count("task.cancel_requested") == 1


async def test_cancelling_an_ended_task_changes_nothing(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    ended = await stores.tasks.get("default", lease.task_id)
    assert (await stores.tasks.cancel("default", lease.task_id)).task == ended


async def test_what_was_handed_out_cannot_change_what_is_stored(
    stores: Stores,
) -> None:
    words = {"list": [1]}
    task = await submitted(stores.tasks, input=words)
    words["list"].append(2)
    task.input["more"] = True
    assert (await stores.tasks.get("default", task.id)).input == {"list": [1]}


async def test_no_method_finds_another_tenants_task(stores: Stores) -> None:
    tasks = stores.tasks
    lease = await running(tasks)
    theirs = lease._replace(tenant="acme")
    await tasks.record_step(lease, Step(key="s", kind=StepKind.CUSTOM))
    for read in (tasks.get, tasks.steps, tasks.events, tasks.cancel):
        with pytest.raises(TaskNotFound):
            await read("acme", lease.task_id)
    assert (await tasks.list("acme", TaskFilter())).tasks == ()
    refusal = await tasks.claim(
        "acme", lease.task_id, worker="w", serves=[AGENT], lease_seconds=30
    )
    assert refusal is RefusalReason.UNKNOWN
    assert await tasks.renew([theirs], lease_seconds=30) == ("lost",)
    event = NewEvent(type=EventType.PROGRESS, data={})
    for write in (
        tasks.append_events(theirs, [event]),
        tasks.record_step(theirs, Step(key="t", kind=StepKind.CUSTOM)),
        tasks.release(theirs, running_seconds=0, reason="r"),
        tasks.finish(theirs, failed(), running_seconds=0),
    ):
        with pytest.raises(LeaseLost):
            await write
    unharmed = await tasks.get("default", lease.task_id)
    assert unharmed.status is TaskStatus.RUNNING


async def test_a_missing_task_is_not_found(stores: Stores) -> None:
    tasks = stores.tasks
    stored = await submitted(tasks)
    for task_id in ("task-none", f"{stored.id}:events", "", "a b", "*", "ä"):
        for read in (tasks.get, tasks.steps, tasks.events, tasks.cancel):
            with pytest.raises(TaskNotFound):
                await read("default", task_id)
        named = stored.model_copy(update={"id": task_id})
        assert await try_claim(tasks, named) is RefusalReason.UNKNOWN


async def test_state_that_a_submitter_made_up_is_ignored(stores: Stores) -> None:
    made_up = {"status": TaskStatus.COMPLETED, "attempt": 7, "worker": "w"}
    task = await submitted(stores.tasks, **made_up)
    assert (task.status, task.attempt, task.worker) == (TaskStatus.PENDING, 0, None)
    assert await stores.tasks.get("default", task.id) == task


async def test_the_check_reports_version_and_durability(stores: Stores) -> None:
    report = await stores.tasks.check()
    tells_nothing = report["version"] == "unknown"  # as fakeredis
    assert report["durability"] == ("unknown" if tells_nothing else "none")
    assert report["version"]
