"""How runs end, and that nothing changes after it, on every store."""

from __future__ import annotations

import pytest

from conversations.errors import ConversationNotFound
from conversations.message import Message, Role
from orchestrator.errors import InvalidTransition, LeaseLost
from orchestrator.events import EventType, NewEvent
from orchestrator.store import (
    Ending,
    Lease,
    LeaseState,
    RefusalReason,
    Turn,
)
from orchestrator.task import (
    TaskFailure,
    TaskResult,
    TaskStats,
    TaskStatus,
    Usage,
)
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    AGENT,
    FENCED_WRITES,
    claim,
    completed,
    event_types,
    failed,
    running,
    submitted,
    try_claim,
    turn,
    worker,
)

FAILURE = TaskFailure(code="rate_limited", message="Slow down.", retryable=True)
PROGRESS = NewEvent(type=EventType.PROGRESS, data={"message": "ä", "empty": []})


async def test_finish_stores_result_end_event_and_time_together(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.release(
        lease, running_seconds=2, reason="retry", failure=FAILURE
    )
    task = await stores.tasks.get("default", lease.task_id)
    lease = (await claim(stores.tasks, task)).lease
    stats = TaskStats(usage=Usage(input_tokens=3, output_tokens=4), completions=2)
    ending = completed(lease, "Änswer", output={"a": []}, stats=stats)
    await stores.tasks.finish(lease, ending, running_seconds=1.25)
    task = await stores.tasks.get("default", lease.task_id)
    assert task.status is TaskStatus.COMPLETED
    assert task.failure is None
    assert task.running_seconds == 3.25
    assert task.finished_at is not None
    assert ending.result is not None
    assert task.result == ending.result.model_copy(
        update={"executed_at": task.finished_at}
    )
    last = (await stores.tasks.events("default", lease.task_id))[-1]
    assert last.type is EventType.TASK_COMPLETED
    assert last.data == {
        "status": "completed",
        "stop_reason": "end_turn",
        "partial": False,
    }


async def test_finish_stores_a_failure_and_names_it_in_the_end_event(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.finish(lease, failed("boom"), running_seconds=0)
    task = await stores.tasks.get("default", lease.task_id)
    assert (task.status, task.failure) == (TaskStatus.FAILED, failed().failure)
    last = (await stores.tasks.events("default", lease.task_id))[-1]
    assert last.data["code"] == "boom"


async def test_a_cancelled_run_keeps_its_partial_work(stores: Stores) -> None:
    lease = await running(stores.tasks)
    result = TaskResult(task_id=lease.task_id, content="so far", partial=True)
    ending = Ending(status=TaskStatus.CANCELLED, result=result)
    await stores.tasks.finish(lease, ending, running_seconds=0)
    task = await stores.tasks.get("default", lease.task_id)
    assert task.result is not None
    assert task.result.content == "so far"
    assert task.result.status is TaskStatus.CANCELLED


async def test_repeating_finish_changes_nothing(stores: Stores) -> None:
    lease = await running(stores.tasks, conversation_id="c")
    waiting = await submitted(stores.tasks, conversation_id="c")
    ending = completed(lease)
    bells = await stores.tasks.finish(lease, ending, running_seconds=1)
    ended = await stores.tasks.get("default", lease.task_id)
    assert await stores.tasks.finish(lease, ending, running_seconds=1) == bells
    assert [bell.task_id for bell in bells] == [waiting.id]
    assert await stores.tasks.get("default", lease.task_id) == ended
    assert (await event_types(stores.tasks, ended)).count("task.completed") == 1


async def test_finish_takes_terminal_statuses_only(stores: Stores) -> None:
    lease = await running(stores.tasks)
    for status in (TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.WAITING):
        with pytest.raises(InvalidTransition):
            await stores.tasks.finish(lease, Ending(status=status), running_seconds=0)


async def test_every_write_with_an_old_fence_is_refused(stores: Stores) -> None:
    old = await running(stores.tasks)
    await stores.tasks.release(old, running_seconds=0, reason="drain")
    task = await stores.tasks.get("default", old.task_id)
    await claim(stores.tasks, task)
    before = await stores.tasks.get("default", old.task_id)
    for write in FENCED_WRITES:
        with pytest.raises(LeaseLost):
            await write(stores.tasks, old)
    assert await stores.tasks.renew([old], lease_seconds=9) == (LeaseState.LOST,)
    assert await stores.tasks.get("default", old.task_id) == before
    assert await stores.tasks.steps("default", old.task_id) == ()


@pytest.mark.parametrize(
    "status", [status for status in TaskStatus if status.is_terminal]
)
async def test_an_ended_task_never_changes(stores: Stores, status: TaskStatus) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.finish(lease, Ending(status=status), running_seconds=0)
    ended = await stores.tasks.get("default", lease.task_id)
    others = [other for other in TaskStatus if other.is_terminal and other != status]
    for other in others:
        with pytest.raises(LeaseLost):
            await stores.tasks.finish(lease, Ending(status=other), running_seconds=0)
    await refuse_writes_but_finish(stores, lease)
    assert await try_claim(stores.tasks, ended) is RefusalReason.ENDED
    await stores.tasks.cancel("default", ended.id)
    await stores.tasks.sweep()
    assert await stores.tasks.get("default", ended.id) == ended


async def refuse_writes_but_finish(stores: Stores, lease: Lease) -> None:
    """Check the writes that are no repeat of an end."""
    with pytest.raises(LeaseLost):
        await stores.tasks.append_events(lease, [PROGRESS])
    with pytest.raises(LeaseLost):
        await stores.tasks.release(lease, running_seconds=9, reason="late")


async def test_the_turn_enters_the_conversation_with_the_end_once(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks, conversation_id="c")
    messages = (
        Message(role=Role.USER, content="hello"),
        Message(role=Role.ASSISTANT, content="hi ä"),
    )
    ending = Ending(
        status=TaskStatus.COMPLETED,
        result=TaskResult(task_id=lease.task_id),
        turn=Turn(messages=messages, config=turn().config),
    )
    for _ in range(2):
        await stores.tasks.finish(lease, ending, running_seconds=0)
    stored = await stores.conversations.read("default", "c")
    assert tuple(each.message for each in stored) == messages
    assert {each.turn for each in stored} == {lease.task_id}
    last = (await stores.tasks.events("default", lease.task_id))[-1]
    assert "turn" not in last.data


async def test_a_turn_without_a_conversation_is_ignored(stores: Stores) -> None:
    lease = await running(stores.tasks)
    ending = Ending(status=TaskStatus.COMPLETED, turn=turn("hello"))
    await stores.tasks.finish(lease, ending, running_seconds=0)
    task = await stores.tasks.get("default", lease.task_id)
    assert task.status is TaskStatus.COMPLETED


async def test_the_turn_of_a_deleted_conversation_is_dropped_and_said(
    stores: Stores,
) -> None:
    first = await running(stores.tasks, conversation_id="c")
    ending = Ending(status=TaskStatus.COMPLETED, turn=turn("hello"))
    await stores.tasks.finish(first, ending, running_seconds=0)
    lease = await running(stores.tasks, conversation_id="c")
    await stores.conversations.delete("default", "c")
    await stores.tasks.finish(lease, ending, running_seconds=0)
    last = (await stores.tasks.events("default", lease.task_id))[-1]
    assert last.data["turn"] == "dropped"
    with pytest.raises(ConversationNotFound):
        await stores.conversations.get("default", "c")


async def test_a_refused_finish_leaves_the_conversation_alone(stores: Stores) -> None:
    old = await running(stores.tasks, conversation_id="c")
    await stores.tasks.release(old, running_seconds=0, reason="drain")
    ending = Ending(status=TaskStatus.COMPLETED, turn=turn("late"))
    with pytest.raises(LeaseLost):
        await stores.tasks.finish(old, ending, running_seconds=0)
    with pytest.raises(ConversationNotFound):
        await stores.conversations.get("default", "c")


async def test_health_counts_how_runs_ended(stores: Stores) -> None:
    await stores.directory.announce(worker(AGENT), ttl_seconds=30)
    for ending in ("completed", "completed", "failed", "cancelled", "timed_out"):
        lease = await running(stores.tasks)
        failure = failed(ending).failure if ending in ("failed", "timed_out") else None
        end = Ending(status=TaskStatus(ending), failure=failure)
        await stores.tasks.finish(lease, end, running_seconds=0)
    info = await stores.directory.find(AGENT)
    assert info is not None
    assert (info.health.successes, info.health.failures) == (2, 2)
    assert info.health.last_failure_code == "timed_out"
    assert info.health.last_success_at is not None
    assert info.health.last_failure_at is not None
    assert info.health.failure_rate == 0.5
