"""What becomes of a conversation's turns under each rule and ending, on each store."""

from __future__ import annotations

import pytest

from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import ConversationNotFound
from conversations.message import Message, Role
from orchestrator.journal import SUMMARY_KEY, Step, StepKind
from orchestrator.store import (
    Ending,
)
from orchestrator.task import TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    claim,
    failed,
    sweep_until,
)
from tests.conformance.turn_steps import (
    TALK,
    answered,
    asked,
    history,
    said,
    say,
)


async def test_a_failed_turn_leaves_its_question_and_a_closing_mark(
    stores: Stores,
) -> None:
    task = await asked(stores, 'Änd "quotes"\nand lines')
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert await said(stores) == [
        ("user", 'Änd "quotes"\nand lines'),
        ("assistant", "[This turn failed before it ended.]"),
    ]
    stored = await history(stores)
    assert stored[-1].message.metadata == {"closed": "failed"}
    assert [each.turn for each in stored] == [task.id, task.id]


async def test_what_an_unfinished_turn_had_said_is_kept_and_marked(
    stores: Stores,
) -> None:
    task = await asked(stores, "Tell me")
    lease = (await claim(stores.tasks, task)).lease
    await say(stores, lease, 1, 'First / "part"\n\u0000é')
    await say(stores, lease, 2, "Second part")
    await stores.tasks.finish(
        lease, Ending(status=TaskStatus.CANCELLED), running_seconds=0
    )
    assert (await said(stores))[-1] == (
        "assistant",
        'First / "part"\n\ufffdé\n\nSecond part\n\n'
        "[This turn was cancelled before it ended.]",
    )


async def test_a_summary_that_an_unfinished_turn_has_paid_for_is_kept(
    stores: Stores,
) -> None:
    await stores.conversations.append(
        "default",
        TALK,
        [Message(role=Role.USER, content=str(number)) for number in range(4)],
        create_with=ConversationConfig(context_window=2),
    )
    task = await asked(stores, "First")
    lease = (await claim(stores.tasks, task)).lease
    text = 'In short: "ä" \\ \n 1'
    summary = Message(role=Role.SYSTEM, content=text, covers=2)
    outcome = summary.model_dump(mode="json", exclude_defaults=True)
    step = Step(key=SUMMARY_KEY, kind=StepKind.COMPLETION, outcome=outcome)
    await stores.tasks.record_step(lease, step)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    _, window = await stores.conversations.read_window("default", TALK)
    (kept,) = (each for each in window if each.message.covers)
    assert kept.message == summary
    assert kept.turn == task.id
    assert (await said(stores))[-2][1] == "First"


async def test_of_a_very_long_unfinished_answer_the_newest_pieces_are_kept(
    stores: Stores,
) -> None:
    lease = (await claim(stores.tasks, await asked(stores, "Tell me"))).lease
    await say(stores, lease, 1, "x" * 60_000)
    await say(stores, lease, 2, "y" * 60_000)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    content = (await said(stores))[-1][1]
    assert content == "y" * 60_000 + "\n\n[This turn failed before it ended.]"


async def test_a_turn_whose_worker_vanished_is_closed_by_the_sweeper(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(max_crashes=1)
    task = await asked(stores, "Are you there?")
    lease = (await claim(stores.tasks, task, lease_seconds=0.2)).lease
    await say(stores, lease, 1, "So far")
    await sweep_until(stores.tasks, task, TaskStatus.PENDING)
    await claim(stores.tasks, task, worker="host:2:2", lease_seconds=0.2)
    await sweep_until(stores.tasks, task, TaskStatus.FAILED)
    assert await said(stores) == [
        ("user", "Are you there?"),
        ("assistant", "So far\n\n[This turn failed before it ended.]"),
    ]


async def test_a_cancelled_run_whose_worker_vanished_is_closed_by_the_sweeper(
    stores: Stores,
) -> None:
    task = await asked(stores, "Stop")
    await claim(stores.tasks, task, lease_seconds=0.2)
    await stores.tasks.cancel("default", task.id)
    await sweep_until(stores.tasks, task, TaskStatus.CANCELLED)
    assert [role for role, _ in await said(stores)] == ["user", "assistant"]


async def test_a_cancel_seen_on_release_closes_the_turn(stores: Stores) -> None:
    task = await asked(stores, "Stop")
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.cancel("default", task.id)
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    assert len(await history(stores)) == 2


async def test_a_turn_that_waited_behind_another_leaves_nothing_when_cancelled(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    second = await asked(stores, "Second")
    await stores.tasks.cancel("default", second.id)
    assert await history(stores) == []
    await stores.tasks.finish(lease, answered(first), running_seconds=0)
    assert await said(stores) == [("user", "First"), ("assistant", "done")]


async def test_a_conversation_may_drop_turns_without_an_answer(stores: Stores) -> None:
    config = ConversationConfig(on_failure="drop")
    await stores.conversations.create(Conversation(id=TALK, config=config))
    lease = (await claim(stores.tasks, await asked(stores, "Hello"))).lease
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert await history(stores) == []


async def test_a_failed_turn_does_not_bring_back_a_deleted_conversation(
    stores: Stores,
) -> None:
    await stores.conversations.create(Conversation(id=TALK))
    lease = (await claim(stores.tasks, await asked(stores, "Hello"))).lease
    await stores.conversations.delete("default", TALK)
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    with pytest.raises(ConversationNotFound):
        await stores.conversations.get("default", TALK)


def without_names(message: Message) -> Message:
    text = message.content.replace("Ada", "…")
    return message.model_copy(update={"content": text})


@pytest.mark.parametrize("ends_well", [True, False])
async def test_turns_are_redacted_before_they_are_stored(
    open_stores: OpenStores, ends_well: bool
) -> None:
    stores = open_stores(redact=without_names)
    task = await asked(stores, "I am Ada")
    lease = (await claim(stores.tasks, task)).lease
    await say(stores, lease, 1, "Hello Ada")
    ending = answered(task, "Hello Ada") if ends_well else failed()
    await stores.tasks.finish(lease, ending, running_seconds=0)
    texts = [text for _, text in await said(stores)]
    assert texts[0] == "I am …"
    assert texts[1].startswith("Hello …")


async def test_a_question_is_redacted_once_whatever_becomes_of_the_hook(
    open_stores: OpenStores,
) -> None:
    """A hook that fails later would leave a task half ended."""
    seen: list[str] = []

    def once(message: Message) -> Message:
        if message.content in seen:
            raise ValueError("the hook's service is away")
        seen.append(message.content)
        return without_names(message)

    stores = open_stores(redact=once)
    first, second = await asked(stores, "I am Ada"), await asked(stores, "Ada?")
    lease = (await claim(stores.tasks, first)).lease
    await asked(stores, "Hear, Ada", when_busy="steer")
    assert await stores.tasks.take_messages(lease, "messages:1:1")
    last = await asked(stores, "Stop", when_busy="interrupt")
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    texts = [text for role, text in await said(stores) if role == "user"]
    assert texts == ["I am …", "Hear, …", "…?"]
    status = (await stores.tasks.get("default", second.id)).status
    assert status is TaskStatus.CANCELLED
    await claim(stores.tasks, last)
