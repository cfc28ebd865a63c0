"""What a claim tells of the run's conversation, on each store."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from conversations.append_script import append_keys
from conversations.conversation import ConversationConfig
from conversations.message import Message, Role, ToolCall
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import RefusalReason
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import claim, completed, submitted, try_claim
from tests.conformance.turn_steps import TALK, answered, asked

SMALL = ConversationConfig(context_window=2)


def user(text: str, **fields: object) -> Message:
    return Message(role=Role.USER, content=text, **fields)


CALL = Message(
    role=Role.ASSISTANT,
    tool_calls=(ToolCall(id="1", name="look"), ToolCall(id="2", name="look")),
)


def result(call: str) -> Message:
    return Message(role=Role.TOOL, content=f"seen {call}", tool_call_id=call)


HISTORIES = {
    "empty": [],
    "short": [user("one")],
    "long": [user(str(number)) for number in range(9)],
    "kept": [
        Message(role=Role.SYSTEM, content="rules"),
        user("pinned", pinned=True),
        *(Message(role=Role.ASSISTANT, content=str(n)) for n in range(5)),
    ],
    "summary": [
        *(user(str(number)) for number in range(4)),
        Message(role=Role.SYSTEM, content="in short", covers=3),
        *(Message(role=Role.ASSISTANT, content=str(n)) for n in range(3)),
    ],
    "open calls": [user("look"), CALL, result("1")],
}


@pytest.mark.parametrize("messages", HISTORIES.values(), ids=HISTORIES)
async def test_a_claim_brings_what_read_window_reads(
    stores: Stores, messages: list[Message]
) -> None:
    await stores.conversations.append("default", TALK, messages, create_with=SMALL)
    claimed = await claim(stores.tasks, await asked(stores, "and now?"))
    assert claimed.window == await stores.conversations.read_window("default", TALK)
    assert not claimed.begins_conversation


async def test_a_claim_tells_of_a_conversation_that_is_not_there(
    stores: Stores,
) -> None:
    first = await asked(stores, "hello")
    claimed = await claim(stores.tasks, first)
    assert (claimed.window, claimed.begins_conversation) == (None, True)
    await stores.tasks.finish(claimed.lease, answered(first), running_seconds=0)
    second = await asked(stores, "are you there?")
    assert await stores.conversations.delete("default", TALK)
    claimed = await claim(stores.tasks, second)
    assert (claimed.window, claimed.begins_conversation) == (None, True)


async def test_a_claim_without_a_conversation_tells_of_none(stores: Stores) -> None:
    claimed = await claim(stores.tasks, await submitted(stores.tasks))
    assert (claimed.window, claimed.begins_conversation) == (None, False)


async def test_each_attempt_sees_what_came_since_the_one_before(
    open_stores: OpenStores,
) -> None:
    stores = open_stores()
    await stores.conversations.append("default", TALK, [user("a")], create_with=SMALL)
    task = await asked(stores, "and now?")
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.release(lease, running_seconds=0, reason="drained")
    await stores.conversations.append("default", TALK, [user("b")])
    again = await claim(stores.tasks, task)
    assert again.window is not None
    assert [each.message.content for each in again.window.messages] == ["a", "b"]
    await stores.tasks.finish(again.lease, completed(again.lease), running_seconds=0)


DAMAGES = ["head", "log", "system", "config", "message"]


async def damage(client: Redis, what: str) -> None:
    keys = append_keys("default", TALK)
    if what == "config":
        await client.hset(keys.head, "config", "no JSON")
    elif what == "message":
        fields = {"turn": "", "client": "", "at": "1", "start": "1", "message": "?"}
        await client.xadd(keys.log, fields, id="99-0")
    else:
        key = {"head": keys.head, "log": keys.log, "system": keys.system}[what]
        await client.delete(key)
        await client.set(key, "foreign")


@pytest.mark.parametrize("what", DAMAGES)
async def test_a_conversation_that_cannot_be_read_is_left_to_its_reader(
    client: Redis, what: str
) -> None:
    store = RedisTaskStore(client, dispatch_window=1)
    task = await submitted(store, conversation_id=TALK, input={"prompt": "hi"})
    keys = append_keys("default", TALK)
    await client.hset(keys.head, mapping={"config": SMALL.model_dump_json()})
    await client.xadd(keys.log, {"turn": ""}, id="1-0")
    await damage(client, what)
    waits = await submitted(store)
    claimed = await claim(store, task)
    assert (claimed.window, claimed.begins_conversation) == (None, False)
    assert [bell.task_id for bell in claimed.doorbells] == [waits.id]
    assert await try_claim(store, task) is RefusalReason.LEASED
