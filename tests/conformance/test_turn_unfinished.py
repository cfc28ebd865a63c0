"""What a completion had said when its turn ended without an answer, on each store."""

from __future__ import annotations

import pytest

from conversations.closing import MAX_SAID_BYTES
from conversations.conversation import Conversation, ConversationConfig
from conversations.history import check_history
from conversations.message import Message, Role, StoredMessage
from conversations.view import read_view
from orchestrator.errors import LeaseLost
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import SUMMARY_KEY, Step, StepKind, Unfinished
from orchestrator.store import Ending, Lease
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    claim,
    completed,
    failed,
    submit,
    submitted,
    sweep_until,
    turn,
)
from tests.conformance.turn_steps import without_names

TALK = "talk"
NOTES = {
    "cancelled": "[This turn was cancelled before it ended.]",
    "failed": "[This turn failed before it ended.]",
    "timed_out": "[This turn ran out of time before it ended.]",
}
CANCELLED = Ending(status=TaskStatus.CANCELLED)


async def began(stores: Stores, **options: float) -> tuple[Task, Lease]:
    fields = {"conversation_id": TALK, "input": {"prompt": "Tell me"}}
    task = await submitted(stores.tasks, **fields)
    return task, (await claim(stores.tasks, task, **options)).lease


async def says(stores: Stores, lease: Lease, text: str, *, number: int = 1) -> None:
    unfinished = Unfinished(f"completion:{number}", text)
    await stores.tasks.append_events(lease, [], unfinished=unfinished)


async def finishes(stores: Stores, lease: Lease, text: str, *, number: int = 1) -> None:
    key = f"completion:{number}"
    step = Step(key=key, kind=StepKind.COMPLETION, said=text, outcome={})
    await stores.tasks.record_step(lease, step)


async def history(stores: Stores) -> list[StoredMessage]:
    stored = await stores.conversations.read("default", TALK, limit=100)
    check_history([each.message for each in stored])
    return list(stored)


async def last(stores: Stores) -> str:
    return (await history(stores))[-1].message.content


@pytest.mark.parametrize("status", [*NOTES])
async def test_it_is_kept_and_marked_with_the_end(stores: Stores, status: str) -> None:
    _, lease = await began(stores)
    await says(stores, lease, "One")
    await says(stores, lease, 'One "two"\n\u0000é')
    ending = failed() if status != "cancelled" else CANCELLED
    ending = Ending(status=TaskStatus(status), failure=ending.failure)
    await stores.tasks.finish(lease, ending, running_seconds=0)
    assert await last(stores) == f'One "two"\n\ufffdé\n\n{NOTES[status]}'
    assert (await history(stores))[-1].message.metadata == {"closed": status}


async def test_a_finished_completion_takes_its_place(stores: Stores) -> None:
    _, lease = await began(stores)
    await says(stores, lease, "One tw")
    await finishes(stores, lease, "One two")
    await says(stores, lease, "late")  # its answer was lost, and it came again
    await says(stores, lease, "Three", number=2)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert await last(stores) == f"One two\n\nThree\n\n{NOTES['failed']}"


async def test_a_later_attempt_says_it_anew(stores: Stores) -> None:
    task, lease = await began(stores)
    await says(stores, lease, "One")
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    with pytest.raises(LeaseLost):
        await says(stores, lease, "from the past")
    lease = (await claim(stores.tasks, task)).lease
    await says(stores, lease, "Uno")
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    await stores.tasks.cancel("default", task.id)
    assert await last(stores) == f"Uno\n\n{NOTES['cancelled']}"


async def test_the_sweeper_keeps_it_when_the_worker_has_vanished(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(max_crashes=1)
    task, lease = await began(stores, lease_seconds=0.2)
    await says(stores, lease, "So far")
    await sweep_until(stores.tasks, task, TaskStatus.PENDING)
    await claim(stores.tasks, task, worker="host:2:2", lease_seconds=0.2)
    await sweep_until(stores.tasks, task, TaskStatus.FAILED)
    assert await last(stores) == f"So far\n\n{NOTES['failed']}"


async def test_an_interrupt_keeps_it_and_a_rollback_does_not(stores: Stores) -> None:
    for rule in ("interrupt", "rollback"):
        _, lease = await began(stores)
        await says(stores, lease, rule)
        fields = {"conversation_id": TALK, "input": {"prompt": "Next"}}
        after = (await submit(stores.tasks, when_busy=rule, **fields)).task
        await stores.tasks.finish(lease, CANCELLED, running_seconds=0)
        lease = (await claim(stores.tasks, after)).lease
        ending = completed(lease)
        ending = Ending(
            status=ending.status, result=ending.result, turn=turn(f"after {rule}")
        )
        await stores.tasks.finish(lease, ending, running_seconds=0)
    texts = [each.message.content for each in await history(stores)]
    assert texts == [
        "Tell me",
        f"interrupt\n\n{NOTES['cancelled']}",
        "after interrupt",
        "after rollback",
    ]


async def test_an_answer_leaves_no_trace_of_it(stores: Stores) -> None:
    _, lease = await began(stores)
    await says(stores, lease, "One")
    ending = completed(lease)
    ending = Ending(status=ending.status, result=ending.result, turn=turn("whole"))
    await stores.tasks.finish(lease, ending, running_seconds=0)
    assert [each.message.content for each in await history(stores)] == ["whole"]


async def test_without_a_conversation_or_when_dropped_nothing_is_kept(
    stores: Stores,
) -> None:
    alone = (await claim(stores.tasks, await submitted(stores.tasks))).lease
    await says(stores, alone, "Nobody hears")
    await stores.tasks.finish(alone, failed(), running_seconds=0)
    config = ConversationConfig(on_failure="drop")
    await stores.conversations.create(Conversation(id=TALK, config=config))
    _, lease = await began(stores)
    await says(stores, lease, "One")
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert await history(stores) == []


@pytest.mark.parametrize("letter", ["x", "é", "€", "𝄞"])
async def test_of_a_very_long_text_the_end_is_kept(stores: Stores, letter: str) -> None:
    _, lease = await began(stores)
    await finishes(stores, lease, "before")
    await says(stores, lease, letter * MAX_SAID_BYTES, number=2)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    text = (await last(stores)).removesuffix(f"\n\n{NOTES['failed']}")
    assert set(text) == {letter}
    size = len(text.encode())
    assert MAX_SAID_BYTES - 4 < size <= MAX_SAID_BYTES


@pytest.mark.parametrize("letter", ["x", "é", "€", "𝄞"])
async def test_of_a_very_long_completion_the_end_is_kept(
    stores: Stores, letter: str
) -> None:
    _, lease = await began(stores)
    await finishes(stores, lease, "!" + letter * MAX_SAID_BYTES)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    text = (await last(stores)).removesuffix(f"\n\n{NOTES['failed']}")
    assert set(text) == {letter}
    assert MAX_SAID_BYTES - 4 < len(text.encode()) <= MAX_SAID_BYTES


async def test_it_is_redacted_and_nothing_is_kept_where_that_fails(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(redact=without_names)
    _, lease = await began(stores)
    await says(stores, lease, "Hello Ada")
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert await last(stores) == f"Hello …\n\n{NOTES['failed']}"
    _, lease = await began(stores)
    await says(stores, lease, "Hello Bob")
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert await last(stores) == NOTES["failed"]


async def test_a_batch_tells_and_keeps_together(stores: Stores) -> None:
    task, lease = await began(stores)
    told = NewEvent(type=EventType.PROGRESS, data={"message": "on it"})
    unfinished = Unfinished("completion:1", "One")
    await stores.tasks.append_events(lease, [told], unfinished=unfinished)
    events = await stores.tasks.events("default", task.id)
    assert events[-1].data == {"message": "on it"}
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert (await last(stores)).startswith("One")


async def test_a_summary_without_a_text_enters_no_history(stores: Stores) -> None:
    _, lease = await began(stores)
    step = Step(key=SUMMARY_KEY, kind=StepKind.COMPLETION, outcome=None)
    await stores.tasks.record_step(lease, step)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    roles = [each.message.role for each in await history(stores)]
    assert roles == [Role.USER, Role.ASSISTANT]


async def test_a_dropped_turn_leaves_the_summary_that_it_has_paid_for(
    stores: Stores,
) -> None:
    config = ConversationConfig(context_window=2, on_failure="drop")
    before = [Message(role=Role.USER, content=str(number)) for number in range(4)]
    await stores.conversations.append("default", TALK, before, create_with=config)
    task, lease = await began(stores)
    summary = Message(role=Role.SYSTEM, content="In short: 0, 1", covers=2)
    outcome = summary.model_dump(mode="json", exclude_defaults=True)
    step = Step(key=SUMMARY_KEY, kind=StepKind.COMPLETION, outcome=outcome)
    await stores.tasks.record_step(lease, step)
    await says(stores, lease, "Well,")
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    stored = await history(stores)
    assert [each.message for each in stored] == [*before, summary]
    assert stored[-1].turn == task.id
    view = await read_view(stores.conversations, "default", TALK)
    assert view.window.summary == summary
    assert view.to_summarise == ()
