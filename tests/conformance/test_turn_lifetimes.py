"""Turns of conversations that are deleted or expire, and turns that are parked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from conversations import (
    Conversation,
    ConversationBusy,
    ConversationConfig,
    ConversationConflict,
    ConversationNotFound,
    Message,
    Role,
    StoredMessage,
)
from conversations.append_script import append_keys
from conversations.conversation import new_hidden_id
from conversations.history import check_history
from conversations.memory_store import InMemoryConversationStore
from conversations.redis_store import RedisConversationStore
from orchestrator.errors import IdempotencyConflict, InvalidInput
from orchestrator.journal import Decision, call_key
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Creation, Ending, Lease, RefusalReason, TaskStore, Turn
from orchestrator.store_limits import DAY_SECONDS, RESULT_TTL_SECONDS
from orchestrator.task import AwaitedCall, Task, TaskStatus, WhenBusy
from tests.conformance.conftest import Stores
from tests.conformance.conversation_steps import eventually
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    submit,
    submitted,
    try_claim,
)
from tests.fake_redis import fake_redis

TALK = "talk"
BRIEF = ConversationConfig(context_window=7, ttl_seconds=1.5)
"""A turn must begin within it, on a machine that is busy too."""
LASTING = ConversationConfig(ttl_seconds=60)
AWAITED = AwaitedCall(call_id="1:a", tool="pay")
AGAIN = Decision(key=call_key("1:a"), action="run")


async def asked(store: TaskStore, text: str, **fields: object) -> Task:
    return await submitted(
        store, conversation_id=TALK, input={"prompt": text}, **fields
    )


def answered(task: Task) -> Ending:
    messages = (
        Message(role=Role.USER, content=str(task.input["prompt"])),
        Message(role=Role.ASSISTANT, content="done"),
    )
    ending = completed(Lease("default", task.id, 1, "w"))
    turn = Turn(messages=messages, config=ConversationConfig())
    return Ending(status=ending.status, result=ending.result, turn=turn)


async def finish(stores: Stores, task: Task) -> None:
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.finish(lease, answered(task), running_seconds=0)


async def parked(stores: Stores, text: str) -> Task:
    task = await asked(stores.tasks, text)
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.park(lease, [AWAITED], running_seconds=0)
    return task


async def history(stores: Stores) -> list[StoredMessage]:
    try:
        stored = await stores.conversations.read("default", TALK)
    except ConversationNotFound:
        return []
    check_history([each.message for each in stored])
    return list(stored)


async def said(stores: Stores) -> list[str]:
    return [each.message.content for each in await history(stores)]


class TestDeleted:
    async def test_a_submit_on_a_deleted_conversation_is_refused(
        self, stores: Stores
    ) -> None:
        await stores.conversations.create(Conversation(id=TALK))
        await stores.conversations.delete("default", TALK)
        task = Task(agent_name=AGENT, conversation_id=TALK, input={"prompt": "a"})
        (answer,) = await stores.tasks.create([task])
        assert isinstance(answer, ConversationNotFound)
        other = task.model_copy(update={"tenant": "bob"})
        assert isinstance((await stores.tasks.create([other]))[0], Creation)

    async def test_turns_of_a_deleted_conversation_end_and_leave_nothing(
        self, stores: Stores
    ) -> None:
        await stores.conversations.create(Conversation(id=TALK))
        running = await asked(stores.tasks, "running")
        waiting = await asked(stores.tasks, "waiting")
        lease = (await claim(stores.tasks, running)).lease
        await stores.conversations.delete("default", TALK)
        await stores.tasks.finish(lease, answered(running), running_seconds=0)
        await finish(stores, waiting)
        for task in (running, waiting):
            ended = await stores.tasks.get("default", task.id)
            assert ended.status is TaskStatus.COMPLETED
        assert await history(stores) == []
        with pytest.raises(ConversationNotFound):
            await stores.conversations.get("default", TALK)

    async def test_one_that_is_to_end_at_a_message_is_deleted_there_or_not_at_all(
        self, stores: Stores
    ) -> None:
        talks = stores.conversations
        first = await asked(stores.tasks, "first")
        assert not await talks.delete("default", TALK, at=0)
        await finish(stores, first)
        following = await asked(stores.tasks, "following")
        assert not await talks.delete("default", TALK, at=2)
        await finish(stores, following)
        for seq in (1, 2, 5):
            assert not await talks.delete("default", TALK, at=seq)
        assert not await talks.delete("bob", TALK, at=4)
        assert await said(stores) == ["first", "done", "following", "done"]
        assert await talks.delete("default", TALK, at=4)
        assert not await talks.delete("default", TALK, at=4)
        assert await history(stores) == []

    async def test_one_whose_first_turn_is_unfinished_is_deleted(
        self, stores: Stores
    ) -> None:
        running = await asked(stores.tasks, "running")
        waiting = await asked(stores.tasks, "waiting")
        lease = (await claim(stores.tasks, running)).lease
        assert not await stores.conversations.delete("bob", TALK)
        assert not await stores.conversations.delete("default", "other")
        assert await stores.conversations.delete("default", TALK)
        assert not await stores.conversations.delete("default", TALK)
        late = Task(agent_name=AGENT, conversation_id=TALK, input={"prompt": "a"})
        (refused,) = await stores.tasks.create([late])
        assert isinstance(refused, ConversationNotFound)
        with pytest.raises(ConversationConflict, match="was deleted"):
            await stores.conversations.create(Conversation(id=TALK))
        await stores.tasks.finish(lease, answered(running), running_seconds=0)
        await finish(stores, waiting)
        for task in (running, waiting):
            ended = await stores.tasks.get("default", task.id)
            assert ended.status is TaskStatus.COMPLETED
        with pytest.raises(ConversationNotFound):
            await stores.conversations.get("default", TALK)


async def begins_anew(stores: Stores, task: Task) -> None:
    """The conversation expires under a turn, which begins it as it was."""
    lease = (await claim(stores.tasks, task)).lease
    await eventually(stores.conversations, gone=TALK)
    await stores.tasks.finish(lease, answered(task), running_seconds=0)
    page = await stores.conversations.list("default")
    assert [each.config for each in page.conversations] in ([BRIEF], [])
    await eventually(stores.conversations, gone=TALK)


class TestExpired:
    async def test_a_conversation_that_expired_under_a_turn_begins_anew_as_it_was(
        self, stores: Stores
    ) -> None:
        await stores.conversations.create(Conversation(id=TALK, config=BRIEF))
        await begins_anew(stores, await asked(stores.tasks, "a"))

    async def test_one_that_an_interrupted_turn_began_anew_begins_so_again(
        self, stores: Stores
    ) -> None:
        await stores.conversations.create(Conversation(id=TALK, config=BRIEF))
        await parked(stores, "a")
        await eventually(stores.conversations, gone=TALK)
        task = await asked(stores.tasks, "b", when_busy="interrupt")
        await begins_anew(stores, task)

    async def test_a_turn_in_redis_puts_the_end_off(self) -> None:
        client = fake_redis()
        keys = append_keys("default", TALK)
        tasks = RedisTaskStore(client)
        conversations = RedisConversationStore(client)
        await conversations.create(Conversation(id=TALK, config=LASTING))
        await conversations.append("default", TALK, [Message(role="user", content="a")])

        async def almost_gone() -> None:
            for key in keys[:5]:
                await client.pexpire(key, 20_000)

        async def is_put_off() -> bool:
            left = [await client.pttl(key) for key in keys[:5]]
            return all(each == -2 or each > 20_000 for each in left)

        await almost_gone()
        task = await asked(tasks, "b")
        assert await is_put_off()
        await almost_gone()
        await claim(tasks, task)
        assert await is_put_off()
        await client.aclose()

    async def test_a_turn_in_memory_puts_the_end_off(self) -> None:
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        conversations = InMemoryConversationStore(clock=lambda: now[0])
        tasks = InMemoryTaskStore(conversations=conversations)
        await conversations.create(Conversation(id=TALK, config=LASTING))
        now[0] += timedelta(seconds=50)
        task = await asked(tasks, "b")
        now[0] += timedelta(seconds=50)
        await claim(tasks, task)
        now[0] += timedelta(seconds=50)
        assert (await conversations.get("default", TALK)).config == LASTING
        now[0] += timedelta(seconds=11)
        with pytest.raises(ConversationNotFound):
            await conversations.get("default", TALK)


class TestParked:
    @pytest.mark.parametrize("rule", ["enqueue", "steer"])
    async def test_a_turn_behind_a_parked_one_keeps_its_place(
        self, stores: Stores, rule: WhenBusy
    ) -> None:
        first = await parked(stores, "First")
        second = await asked(stores.tasks, "Second", when_busy=rule)
        assert second.id != first.id
        refusal = await try_claim(stores.tasks, second)
        assert refusal is RefusalReason.NOT_NEXT_TURN
        await stores.tasks.resolve("default", first.id, AGAIN)
        await finish(stores, first)
        await finish(stores, second)
        assert await said(stores) == ["First", "done", "Second", "done"]

    async def test_reject_sees_a_parked_turn(self, stores: Stores) -> None:
        await parked(stores, "First")
        task = Task(
            agent_name=AGENT,
            conversation_id=TALK,
            when_busy="reject",
            input={"prompt": "Second"},
        )
        (answer,) = await stores.tasks.create([task])
        assert isinstance(answer, ConversationBusy)

    async def test_interrupt_ends_a_parked_turn_at_once_and_marks_it(
        self, stores: Stores
    ) -> None:
        first = await parked(stores, "First")
        second = await asked(stores.tasks, "Second", when_busy="interrupt")
        ended = await stores.tasks.get("default", first.id)
        assert ended.status is TaskStatus.CANCELLED
        await finish(stores, second)
        texts = await said(stores)
        assert texts[::2] == ["First", "Second"]
        assert "cancelled" in texts[1]

    async def test_rollback_leaves_nothing_of_a_parked_turn(
        self, stores: Stores
    ) -> None:
        first = await parked(stores, "First")
        second = await asked(stores.tasks, "Second", when_busy="rollback")
        ended = await stores.tasks.get("default", first.id)
        assert ended.status is TaskStatus.CANCELLED
        with pytest.raises(InvalidInput):
            await stores.tasks.resolve("default", first.id, AGAIN)
        await finish(stores, second)
        assert await said(stores) == ["Second", "done"]


class TestHidden:
    async def test_a_turn_that_begins_a_hidden_conversation_keeps_it_from_lists(
        self, stores: Stores
    ) -> None:
        names = [new_hidden_id() for _ in range(3)]
        ended, cancelled, waiting = [
            await submitted(stores.tasks, conversation_id=name) for name in names
        ]
        with pytest.raises(ConversationNotFound):
            await stores.conversations.get("default", names[0])
        lease = (await claim(stores.tasks, ended)).lease
        ending = answered(ended.model_copy(update={"input": {"prompt": "hi"}}))
        await stores.tasks.finish(lease, ending, running_seconds=0)
        await stores.tasks.cancel("default", cancelled.id)
        for name in names[:2]:
            head = await stores.conversations.get("default", name)
            assert (head.hidden, head.last_seq) == (True, 2)
            assert head.config.ttl_seconds == RESULT_TTL_SECONDS + DAY_SECONDS
        with pytest.raises(ConversationNotFound):
            await stores.conversations.get("default", waiting.conversation_id or "")
        assert (await stores.conversations.list("default")).conversations == ()

    async def test_one_request_may_be_sent_with_a_hidden_conversation_each_time(
        self, stores: Stores
    ) -> None:
        first, again = [
            await submit(
                stores.tasks, conversation_id=new_hidden_id(), idempotency_key="k"
            )
            for _ in range(2)
        ]
        assert (first.created, again.created) == (True, False)
        assert again.task.conversation_id == first.task.conversation_id
        for name in ("talk", None):
            (refused,) = await stores.tasks.create(
                [Task(agent_name=AGENT, conversation_id=name, idempotency_key="k")]
            )
            assert isinstance(refused, IdempotencyConflict)
