"""How turns that give way meet the lines in front of the workers, on each store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from conversations.message import Role
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import claim, completed, failed, submit, submitted

TALK = "talk"


async def asked(stores: Stores, text: str, **fields: object) -> Task:
    return await submitted(
        stores.tasks, conversation_id=TALK, input={"prompt": text}, **fields
    )


async def test_turns_that_are_interrupted_together_ring_for_none_of_themselves(
    stores: Stores,
) -> None:
    await submit(stores.tasks, conversation_id=TALK)
    for _ in range(3):
        assert (await submit(stores.tasks, conversation_id=TALK)).doorbells == ()
    last = await submit(stores.tasks, conversation_id=TALK, when_busy="interrupt")
    assert [bell.task_id for bell in last.doorbells] == [last.task.id]


async def test_an_interrupt_rings_for_those_that_waited_for_the_turns_it_ends(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    follower = await submitted(stores.tasks, after=(first.id,))
    last = await submit(stores.tasks, conversation_id=TALK, when_busy="interrupt")
    rung = {bell.task_id for bell in last.doorbells}
    assert rung == {follower.id, last.task.id}


async def test_a_message_that_steers_leaves_room_for_other_tasks(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(dispatch_window=1)
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    await asked(stores, "In red", when_busy="steer")
    assert await stores.tasks.take_messages(lease, "messages:1:1") is not None
    other = await submit(stores.tasks)
    assert [bell.task_id for bell in other.doorbells] == [other.task.id]
    assert await stores.tasks.finish(lease, completed(lease), running_seconds=0) == ()


async def test_a_message_that_waits_does_not_steer(stores: Stores) -> None:
    other = await submitted(stores.tasks)
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    later = datetime.now(UTC) + timedelta(hours=1)
    held = await asked(stores, "Held", when_busy="steer", after=(other.id,))
    late = await asked(stores, "Late", when_busy="steer", not_before=later)
    assert first.id not in (held.id, late.id)
    assert await stores.tasks.take_messages(lease, "messages:1:1") is None


async def test_who_waits_for_a_steering_task_waits_for_the_run_that_it_joins(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    await asked(stores, "In red", when_busy="steer", id="joining")
    one = await submitted(stores.tasks, after=("joining",))
    both = await submitted(stores.tasks, after=("joining", first.id))
    assert await stores.tasks.take_messages(lease, "messages:1:1") is not None
    bells = await stores.tasks.finish(lease, completed(lease), running_seconds=0)
    assert {bell.task_id for bell in bells} == {one.id, both.id}


async def test_a_step_after_taken_messages_stands_behind_them(stores: Stores) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    for number in (1, 2):
        await asked(stores, f"More {number}", when_busy="steer")
        await stores.tasks.take_messages(lease, f"messages:{number}:1")
    steps = await stores.tasks.steps("default", first.id)
    assert [step.key for step in steps] == ["messages:1:1", "messages:2:1"]
    assert (await stores.tasks.get("default", first.id)).status is TaskStatus.RUNNING


async def test_messages_to_a_run_are_said_once_over_its_attempts(
    stores: Stores,
) -> None:
    """One taken before the run was given back, one not yet, one on the way."""
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    await asked(stores, "taken", when_busy="steer")
    taken = await stores.tasks.take_messages(lease, "messages:1:1")
    await asked(stores, "waiting", when_busy="steer")
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    late = await asked(stores, "late", when_busy="steer")
    claimed = await claim(stores.tasks, first)
    assert claimed.steps == (taken,)
    again = await stores.tasks.take_messages(claimed.lease, "messages:1:1")
    assert again == taken
    step = await stores.tasks.take_messages(claimed.lease, "messages:1:2")
    words = [] if step is None else [each["content"] for each in step.outcome]
    assert words == ["waiting"]
    assert await stores.tasks.take_messages(claimed.lease, "messages:1:3") is None
    await stores.tasks.finish(claimed.lease, failed(), running_seconds=0)
    await finished_late(stores, late)
    stored = await stores.conversations.read("default", TALK)
    questions = [m.message.content for m in stored if m.message.role is Role.USER]
    assert questions == ["First", "taken", "waiting", "late"]


async def finished_late(stores: Stores, task: Task) -> None:
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.finish(lease, failed(), running_seconds=0)
