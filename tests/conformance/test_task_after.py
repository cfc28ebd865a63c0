"""Tasks that wait for the end of others, on every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.store import RefusalReason
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    failed,
    running,
    submit,
    submitted,
    try_claim,
)


async def end(stores: Stores, task: Task, *, well: bool = True) -> list[str]:
    lease = (await claim(stores.tasks, task)).lease
    ending = completed(lease) if well else failed()
    bells = await stores.tasks.finish(lease, ending, running_seconds=0)
    return [bell.task_id for bell in bells]


async def test_a_task_is_rung_when_the_last_of_those_before_it_has_ended(
    stores: Stores,
) -> None:
    first, second = [await submitted(stores.tasks) for _ in range(2)]
    joined = await submit(stores.tasks, after=(first.id, second.id))
    assert joined.doorbells == ()
    assert joined.task.status is TaskStatus.PENDING
    assert await try_claim(stores.tasks, joined.task) is RefusalReason.NOT_DUE
    assert await end(stores, first) == []
    assert (await stores.tasks.sweep()).doorbells == ()
    waiting = await stores.tasks.get("default", joined.task.id)
    assert waiting.pending_reason
    assert await end(stores, second, well=False) == [joined.task.id]
    claimed = await claim(stores.tasks, joined.task)
    assert claimed.task.after == (first.id, second.id)


async def test_a_cancelled_task_has_ended_too(stores: Stores) -> None:
    first = await submitted(stores.tasks)
    joined = await submit(stores.tasks, after=(first.id,))
    cancellation = await stores.tasks.cancel("default", first.id)
    assert [bell.task_id for bell in cancellation.doorbells] == [joined.task.id]


async def test_nobody_waits_for_what_has_ended(stores: Stores) -> None:
    first = await submitted(stores.tasks)
    await end(stores, first)
    joined = await submit(stores.tasks, after=(first.id, "task-unknown"))
    assert [bell.task_id for bell in joined.doorbells] == [joined.task.id]


async def test_a_task_of_a_deleted_ones_id_waits_for_the_same_tasks_too(
    stores: Stores,
) -> None:
    first, second = [await submitted(stores.tasks) for _ in range(2)]
    again = Task(agent_name=AGENT, after=(first.id, second.id))
    await stores.tasks.create([again])
    await stores.tasks.cancel("default", again.id)
    await stores.tasks.delete("default", again.id)
    await stores.tasks.create([again])
    assert await try_claim(stores.tasks, again) is RefusalReason.NOT_DUE
    assert await end(stores, first) == []
    assert await try_claim(stores.tasks, again) is RefusalReason.NOT_DUE
    assert await end(stores, second) == [again.id]


async def test_a_task_that_waits_can_be_cancelled_and_is_not_rung(
    stores: Stores,
) -> None:
    first = await submitted(stores.tasks)
    joined = await submit(stores.tasks, after=(first.id,))
    await stores.tasks.cancel("default", joined.task.id)
    assert await end(stores, first) == []


async def test_a_later_start_is_kept(stores: Stores) -> None:
    first = await submitted(stores.tasks)
    later = datetime.now(UTC) + timedelta(minutes=1)
    joined = await submit(stores.tasks, after=(first.id,), not_before=later)
    assert await end(stores, first) == []
    assert await try_claim(stores.tasks, joined.task) is RefusalReason.NOT_DUE


async def test_a_turn_that_waits_for_others_is_rung_in_its_order(
    stores: Stores,
) -> None:
    turn = await submitted(stores.tasks, conversation_id="c")
    first = await submitted(stores.tasks)
    joined = await submit(stores.tasks, conversation_id="c", after=(first.id,))
    assert await end(stores, turn) == []
    assert await end(stores, first) == [joined.task.id]


async def test_the_ends_of_many_are_read_together_and_in_order(stores: Stores) -> None:
    tasks = [await submitted(stores.tasks) for _ in range(3)]
    for task, well in zip(tasks, (True, False), strict=False):
        await end(stores, task, well=well)
    ids = [tasks[1].id, "task-unknown", tasks[0].id, tasks[2].id]
    lost, unknown, answered, open_ = await stores.tasks.ends("default", ids)
    assert lost == (TaskStatus.FAILED, None, 3)
    assert unknown is None
    record = await stores.tasks.get("default", tasks[0].id)
    assert answered == (TaskStatus.COMPLETED, record.result, 3)
    assert open_ == (TaskStatus.PENDING, None, 1)
    for task, found in ((tasks[0], answered), (tasks[2], open_)):
        events = await stores.tasks.events("default", task.id)
        assert found is not None
        assert events[-1].sequence == found.last_sequence
    assert await stores.tasks.ends("acme", [tasks[0].id]) == (None,)
    assert await stores.tasks.ends("default", []) == ()


async def test_the_end_of_a_task_that_joined_a_run_is_that_of_the_run(
    stores: Stores,
) -> None:
    talk = {"conversation_id": "talk", "input": {"prompt": "In red"}}
    lease = await running(stores.tasks, **talk)
    steering = Task(agent_name=AGENT, when_busy="steer", **talk)
    await stores.tasks.create([steering])
    after = await submitted(stores.tasks, after=(steering.id,))
    await stores.tasks.take_messages(lease, "messages:1")
    assert await try_claim(stores.tasks, after) is RefusalReason.NOT_DUE
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    (joined,) = await stores.tasks.ends("default", [steering.id])
    assert joined is not None
    assert joined.result is not None
    assert joined.result.task_id == lease.task_id
    await claim(stores.tasks, after)


async def test_who_waits_for_a_message_that_has_joined_a_run_waits_for_the_run(
    stores: Stores,
) -> None:
    talk = {"conversation_id": "talk", "input": {"prompt": "In red"}}
    lease = await running(stores.tasks, **talk)
    steering = [Task(agent_name=AGENT, when_busy="steer", **talk) for _ in range(2)]
    await stores.tasks.create(steering)
    await stores.tasks.take_messages(lease, "messages:1")
    ids = [each.id for each in steering]
    after = [
        await submitted(stores.tasks, after=(*ids, *more))
        for more in ((), (lease.task_id,))
    ]
    for each in after:
        assert await try_claim(stores.tasks, each) is RefusalReason.NOT_DUE
    await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    for each in after:
        await claim(stores.tasks, each)
    late = await submitted(stores.tasks, after=ids)
    await claim(stores.tasks, late)


async def test_who_waits_for_a_run_and_for_a_message_to_it_waits_once(
    stores: Stores,
) -> None:
    talk = {"conversation_id": "talk", "input": {"prompt": "In red"}}
    lease = await running(stores.tasks, **talk)
    steering = Task(agent_name=AGENT, when_busy="steer", **talk)
    await stores.tasks.create([steering])
    after = await submitted(stores.tasks, after=(steering.id, lease.task_id))
    await stores.tasks.take_messages(lease, "messages:1")
    assert await try_claim(stores.tasks, after) is RefusalReason.NOT_DUE
    bells = await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    assert [bell.task_id for bell in bells] == [after.id]
    await claim(stores.tasks, after)


async def test_a_task_of_a_deleted_ones_id_waits_for_its_own_tasks_alone(
    stores: Stores,
) -> None:
    first, second = [await submitted(stores.tasks) for _ in range(2)]
    before = Task(agent_name=AGENT, after=(first.id,))
    await stores.tasks.create([before])
    await stores.tasks.cancel("default", before.id)
    await stores.tasks.delete("default", before.id)
    again = Task(id=before.id, agent_name=AGENT, after=(second.id,))
    await stores.tasks.create([again])
    assert await end(stores, first) == []
    assert await try_claim(stores.tasks, again) is RefusalReason.NOT_DUE
    assert await end(stores, second) == [again.id]


async def test_a_task_of_a_deleted_ones_id_that_waits_for_none_begins(
    stores: Stores,
) -> None:
    first = await submitted(stores.tasks)
    before = Task(agent_name=AGENT, after=(first.id,))
    await stores.tasks.create([before])
    await stores.tasks.cancel("default", before.id)
    await stores.tasks.delete("default", before.id)
    again = Task(id=before.id, agent_name=AGENT)
    await stores.tasks.create([again])
    assert await end(stores, first) == []
    assert (await claim(stores.tasks, again)).task.id == again.id
