"""What becomes of a message to a conversation that is at work, on each store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

from conversations.conversation import ConversationConfig
from conversations.errors import ConversationBusy
from conversations.message import Message, Role
from conversations.redaction import Redact
from orchestrator.errors import IdempotencyConflict, LeaseLost
from orchestrator.journal import StepKind
from orchestrator.said import SUBMITTED_BY, senders_of
from orchestrator.store import (
    Claim,
    Creation,
    Doorbell,
    Ending,
    LeaseState,
    RefusalReason,
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
    try_claim,
)
from tests.conformance.turn_steps import (
    TALK,
    answered,
    asked,
    end_data,
    history,
    listed,
    said,
    say,
)


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
    assert step.outcome == [{"role": "user", "content": "In red"}]
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


def rewritten(message: Message) -> Message:
    """What a hook may do: a message of its own, of the same role."""
    return Message(role=message.role, content=message.content.upper())


@pytest.mark.parametrize("redact", [None, rewritten])
async def test_who_has_steered_a_run_is_known_from_its_journal(
    open_stores: OpenStores, redact: Redact | None
) -> None:
    stores = open_stores(redact=redact)
    first = await asked(stores, "First", metadata={SUBMITTED_BY: "alice"})
    lease = (await claim(stores.tasks, first)).lease
    await asked(stores, "x", when_busy="steer", metadata={SUBMITTED_BY: "bob"})
    await stores.tasks.take_messages(lease, "messages:1:1")
    steps = await stores.tasks.steps("default", first.id)
    assert [*senders_of(first, steps)] == ["alice", "bob"]


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


@pytest.mark.parametrize("named", [{"id": "joining"}, {"id": "other"}])
async def test_a_message_is_known_as_said_as_long_as_its_run_and_for_its_time(
    open_stores: OpenStores, named: dict[str, str]
) -> None:
    stores = open_stores(result_ttl_seconds=0.2, idempotency_ttl_seconds=0.2)
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    fields = {"when_busy": "steer", "idempotency_key": "once", "id": "joining"}
    await asked(stores, "In red", **fields)
    await stores.tasks.take_messages(lease, "messages:1:1")
    await asyncio.sleep(0.3)
    assert (await asked(stores, "In red", **(fields | named))).id == first.id
    assert await stores.tasks.take_messages(lease, "messages:2:1") is None
    await stores.tasks.finish(lease, answered(first), running_seconds=0)
    assert (await asked(stores, "In red", **(fields | named))).id == first.id
    await asyncio.sleep(0.3)
    await stores.tasks.sweep()
    assert (await asked(stores, "In red", **(fields | named))).id == named["id"]


async def test_a_message_whose_run_was_deleted_may_be_said_anew(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    await asked(stores, "In red", when_busy="steer", id="joining")
    await stores.tasks.take_messages(lease, "messages:1:1")
    await stores.tasks.finish(lease, answered(first), running_seconds=0)
    await stores.tasks.delete("default", first.id)
    assert (await asked(stores, "In red", id="joining")).id == "joining"


async def test_a_conflict_with_a_message_that_joined_a_run_names_the_run(
    stores: Stores,
) -> None:
    first = await asked(stores, "First")
    lease = (await claim(stores.tasks, first)).lease
    fields = {"when_busy": "steer", "idempotency_key": "once", "id": "joining"}
    await asked(stores, "In red", **fields)
    other = {"agent_name": AGENT, "conversation_id": TALK, "input": {"prompt": "No"}}
    for same in (fields, {"idempotency_key": "once"}):
        (refused,) = await stores.tasks.create([Task(**other, **same)])
        assert isinstance(refused, IdempotencyConflict)
        assert refused.task_id == first.id
        await stores.tasks.take_messages(lease, "messages:1:1")


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
