"""What becomes of a conversation's turns under each rule and ending, on each store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import ConversationBusy, ConversationNotFound
from conversations.history import check_history
from conversations.message import Message, Role, StoredMessage
from orchestrator.errors import LeaseLost
from orchestrator.journal import SUMMARY_KEY, Step, StepKind
from orchestrator.store import (
    Claim,
    Creation,
    Doorbell,
    Ending,
    Lease,
    LeaseState,
    RefusalReason,
    TaskFilter,
    Turn,
)
from orchestrator.task import Task, TaskStatus, WhenBusy
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    event_types,
    failed,
    running,
    submit,
    submitted,
    sweep_until,
    try_claim,
)

TALK = "talk"


async def asked(stores: Stores, text: str, **fields: object) -> Task:
    return await submitted(
        stores.tasks, conversation_id=TALK, input={"prompt": text}, **fields
    )


async def history(stores: Stores) -> list[StoredMessage]:
    try:
        stored = await stores.conversations.read("default", TALK, limit=1000)
    except ConversationNotFound:
        return []
    check_history([each.message for each in stored])
    return list(stored)


async def said(stores: Stores) -> list[tuple[str, str]]:
    return [
        (each.message.role.value, each.message.content)
        for each in await history(stores)
    ]


def answered(task: Task, answer: str = "done") -> Ending:
    question = Message(role=Role.USER, content=str(task.input["prompt"]))
    reply = Message(role=Role.ASSISTANT, content=answer)
    turn = Turn(messages=(question, reply), config=ConversationConfig())
    ending = completed(Lease("default", task.id, 1, "w"), answer)
    return Ending(status=ending.status, result=ending.result, turn=turn)


async def say(stores: Stores, lease: Lease, number: int, text: str) -> None:
    key = f"completion:{number}"
    step = Step(key=key, kind=StepKind.COMPLETION, said=text, outcome={"a": []})
    await stores.tasks.record_step(lease, step)


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
    await claim(stores.tasks, task, lease_seconds=0.2)
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


async def test_interrupt_ends_the_running_turn_keeps_it_and_runs_next(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    await say(stores, lease, 1, "Well,")
    creation = await submit(
        stores.tasks,
        conversation_id=TALK,
        input={"prompt": "Second"},
        when_busy="interrupt",
    )
    assert creation.created
    assert creation.doorbells == ()
    (state,) = await stores.tasks.renew([lease], lease_seconds=30)
    assert state is LeaseState.CANCEL_REQUESTED
    assert await try_claim(stores.tasks, creation.task) is RefusalReason.NOT_NEXT_TURN
    bells = await stores.tasks.finish(
        lease, Ending(status=TaskStatus.CANCELLED), running_seconds=0
    )
    assert [bell.task_id for bell in bells] == [creation.task.id]
    await claim(stores.tasks, creation.task)
    assert await said(stores) == [
        ("user", "First"),
        ("assistant", "Well,\n\n[This turn was cancelled before it ended.]"),
    ]


async def test_interrupt_keeps_the_questions_that_waited_in_their_order(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    second = await asked(stores, "Second")
    third = await asked(stores, "Third", when_busy="interrupt")
    status = (await stores.tasks.get("default", second.id)).status
    assert status is TaskStatus.CANCELLED
    assert await history(stores) == []
    # The answer of the first came before its cancel: it stands whole.
    await stores.tasks.finish(lease, answered(first), running_seconds=0)
    lease = (await claim(stores.tasks, third)).lease
    await stores.tasks.finish(lease, answered(third), running_seconds=0)
    note = "[This turn was cancelled before it ended.]"
    assert await said(stores) == [
        ("user", "First"),
        ("assistant", "done"),
        ("user", "Second"),
        ("assistant", note),
        ("user", "Third"),
        ("assistant", "done"),
    ]


async def test_interrupt_of_turns_that_no_worker_began_runs_at_once(
    stores: Stores,
) -> None:
    await asked(stores, "First")
    await asked(stores, "Second")
    creation = await submit(
        stores.tasks,
        conversation_id=TALK,
        input={"prompt": "Third"},
        when_busy="interrupt",
    )
    assert [bell.task_id for bell in creation.doorbells] == [creation.task.id]
    assert [text for role, text in await said(stores) if role == "user"] == [
        "First",
        "Second",
    ]


@pytest.mark.parametrize("answer_comes_first", [False, True])
async def test_rollback_removes_the_running_turn(
    stores: Stores, answer_comes_first: bool
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    await say(stores, lease, 1, "Well,")
    await asked(stores, "Second")
    third = await asked(stores, "Third", when_busy="rollback")
    ending = Ending(status=TaskStatus.CANCELLED)
    if answer_comes_first:
        ending = answered(first)
    await stores.tasks.finish(lease, ending, running_seconds=0)
    assert await history(stores) == []
    lease = (await claim(stores.tasks, third)).lease
    await stores.tasks.finish(lease, answered(third), running_seconds=0)
    assert await said(stores) == [("user", "Third"), ("assistant", "done")]


async def test_steer_returns_the_running_task_and_journals_the_message(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    creation = await submit(
        stores.tasks,
        conversation_id=TALK,
        input={"prompt": "In red"},
        when_busy="steer",
        tags=("a", "b"),
    )
    assert (creation.task.id, creation.created) == (first.id, False)
    assert creation.task.status is TaskStatus.RUNNING
    step = await stores.tasks.take_messages(lease, "messages:1:1")
    assert step is not None
    assert step.kind is StepKind.MESSAGES
    assert [Message.model_validate(each).content for each in step.outcome] == ["In red"]
    again = await stores.tasks.take_messages(lease, "messages:1:1")
    assert again == step
    assert await stores.tasks.take_messages(lease, "messages:1:2") is None
    assert step in await stores.tasks.steps("default", first.id)
    assert "task.steered" in await event_types(stores.tasks, first)
    for task_filter in ({}, {"conversation_id": TALK}, {"tag": "a"}, {"tag": "b"}):
        found = await listed(stores, **task_filter)
        assert found in ([first.id], [])
    bells = await stores.tasks.finish(lease, answered(first), running_seconds=0)
    assert bells == ()


async def listed(stores: Stores, **fields: object) -> list[str]:
    page = await stores.tasks.list("default", TaskFilter(**fields))
    return [task.id for task in page.tasks]


async def test_a_steering_message_is_kept_when_the_turn_fails_afterwards(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    for text in ("In red", "In blue"):
        await asked(stores, text, when_busy="steer")
    await stores.tasks.take_messages(lease, "messages:1:1")
    await stores.tasks.finish(lease, failed(), running_seconds=0)
    assert [text for _, text in await said(stores)] == [
        "First",
        "In red",
        "In blue",
        "[This turn failed before it ended.]",
    ]


async def test_a_steering_message_that_came_too_late_runs_as_the_next_turn(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    steered = await asked(stores, "In red", when_busy="steer")
    assert steered.id == first.id
    (bell,) = await stores.tasks.finish(lease, answered(first), running_seconds=0)
    assert bell.task_id != first.id
    late = await stores.tasks.get("default", bell.task_id)
    assert late.input == {"prompt": "In red"}
    await claim(stores.tasks, late)
    assert (await end_data(stores, first))["not_joined"] == [late.id]


async def end_data(stores: Stores, task: Task) -> dict[str, object]:
    return dict((await stores.tasks.events("default", task.id))[-1].data)


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_the_end_names_only_messages_that_go_on_by_themselves(
    stores: Stores, ending: str
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    ids = ["taken", "ended", "late-1", "late-2"]
    for each in ids:
        await asked(stores, each, when_busy="steer", id=each)
        if each == "taken":
            await stores.tasks.take_messages(lease, "messages:1:1")
    await stores.tasks.cancel("default", "ended")
    how = failed() if ending == "failed" else Ending(status=TaskStatus.CANCELLED)
    await stores.tasks.finish(lease, how, running_seconds=0)
    assert (await end_data(stores, first))["not_joined"] == ["late-1", "late-2"]
    late = await stores.tasks.get("default", "late-1")
    await stores.tasks.finish(
        (await claim(stores.tasks, late)).lease, answered(late), running_seconds=0
    )
    assert "not_joined" not in await end_data(stores, late)
    assert late.conversation_id == TALK


async def test_steer_without_a_running_turn_is_an_ordinary_turn(
    stores: Stores,
) -> None:
    first = await asked(stores, "First", when_busy="steer")
    second = await asked(stores, "Second", when_busy="steer")
    assert second.id != first.id
    lease = (await claim(stores.tasks, first)).lease
    await stores.tasks.cancel("default", first.id)
    third = await asked(stores, "Third", when_busy="steer")
    assert third.id not in (first.id, second.id)
    assert await stores.tasks.take_messages(lease, "messages:1:1") is None


async def test_a_repeated_steering_submit_says_nothing_twice(stores: Stores) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    fields = {"when_busy": "steer", "idempotency_key": "once", "id": "joining"}
    for _ in range(2):
        assert (await asked(stores, "In red", **fields)).id == first.id
    step = await stores.tasks.take_messages(lease, "messages:1:1")
    assert step is not None
    assert len(step.outcome) == 1
    assert (await asked(stores, "In red", **fields)).id == first.id
    other = fields | {"id": "other"}
    assert (await asked(stores, "In red", **other)).id == first.id
    assert await stores.tasks.take_messages(lease, "messages:2:1") is None


async def test_a_stale_run_takes_no_messages(stores: Stores) -> None:
    lease = await running(stores.tasks, conversation_id=TALK)
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    with pytest.raises(LeaseLost):
        await stores.tasks.take_messages(lease, "messages:1:1")


class Race:
    """Clients submit and workers run on one conversation, as the doorbells tell."""

    def __init__(self, stores: Stores, rule: WhenBusy) -> None:
        self._stores = stores
        self._rule = rule
        self._bells: asyncio.Queue[Doorbell] = asyncio.Queue()
        self.ids: set[str] = set()
        self.refused = 0
        self.at_work: set[str] = set()
        self.most_at_work = 0

    async def submit(self, text: str) -> None:
        fields = {"conversation_id": TALK, "input": {"prompt": text}}
        task = Task(agent_name=AGENT, when_busy=self._rule, **fields)
        (answer,) = await self._stores.tasks.create([task])
        if isinstance(answer, ConversationBusy):
            self.refused += 1
            return
        assert isinstance(answer, Creation), answer
        self.ids.add(answer.task.id)
        self.ring(answer.doorbells)

    def ring(self, bells: Sequence[Doorbell]) -> None:
        for bell in bells:
            self._bells.put_nowait(bell)

    async def work(self) -> None:
        """Answer doorbells until cancelled."""
        while True:
            bell = await self._bells.get()
            claimed = await self._stores.tasks.claim(
                bell.tenant, bell.task_id, worker="w", serves=[AGENT], lease_seconds=30
            )
            if isinstance(claimed, Claim):
                await self._run(claimed)
            self._bells.task_done()

    async def drain(self) -> None:
        """Work until nothing rings, also where refused claims left room."""
        await self._bells.join()
        while bells := (await self._stores.tasks.sweep()).doorbells:
            self.ring(bells)
            await self._bells.join()

    async def _run(self, claimed: Claim) -> None:
        tasks, lease, task = self._stores.tasks, claimed.lease, claimed.task
        self.at_work.add(task.id)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        messages = [Message(role=Role.USER, content=str(task.input["prompt"]))]
        for number in (1, 2):
            step = await tasks.take_messages(lease, f"messages:{number}:1")
            for each in step.outcome if step else ():
                messages.append(Message.model_validate(each))
        (state,) = await tasks.renew([lease], lease_seconds=30)
        ending = Ending(status=TaskStatus.CANCELLED)
        if state is LeaseState.HELD or int(task.id[-1], 16) % 4 == 0:
            messages.append(Message(role=Role.ASSISTANT, content="done"))
            turn = Turn(messages=tuple(messages), config=ConversationConfig())
            ending = replace(completed(lease), turn=turn)
        self.at_work.discard(task.id)
        self.ring(await tasks.finish(lease, ending, running_seconds=0))


@pytest.mark.parametrize("rule", get_args(WhenBusy))
async def test_a_hundred_submits_at_once_never_interleave_their_turns(
    stores: Stores, rule: WhenBusy
) -> None:
    """Four workers race for one conversation; some answers come before a cancel."""
    race = Race(stores, rule)
    workers = [asyncio.create_task(race.work()) for _ in range(4)]
    async with asyncio.timeout(40):
        await asyncio.gather(*(race.submit(f"question {n}") for n in range(100)))
        await race.drain()
    for worker in workers:
        worker.cancel()
    assert race.most_at_work == 1
    stored = await history(stores)
    turns = [each.turn for each in stored]
    starts = [turn for i, turn in enumerate(turns) if i == 0 or turns[i - 1] != turn]
    assert len(starts) == len(set(starts)), "a turn was interleaved"
    questions = Counter(
        each.message.content for each in stored if each.message.role is Role.USER
    )
    assert set(questions.values()) == {1}
    if rule != "rollback":
        assert len(questions) + race.refused == 100
    ended = [await stores.tasks.get("default", task_id) for task_id in race.ids]
    assert all(task.status.is_terminal for task in ended)


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
