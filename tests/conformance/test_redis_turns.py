"""Turns of a conversation whose keys are damaged, and what many of them cost."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from conversations.append_script import append_keys
from conversations.errors import ConversationUnreadable
from conversations.message import Message, Role
from conversations.redis_store import RedisConversationStore
from orchestrator.errors import StoreUnavailable
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Ending
from orchestrator.task import Task, TaskStatus
from tests.conformance.conversation_steps import contents, created
from tests.conformance.task_steps import (
    claim,
    failed,
    submitted,
    sweep_until,
    try_claim,
)
from tests.conformance.turn_steps import TALK, answered

DAMAGED = ("head", "log", "seen", "open")
KEYS = append_keys("default", TALK)


@pytest.fixture
def store(client: Redis) -> RedisTaskStore:
    return RedisTaskStore(client)


async def asked(store: RedisTaskStore, text: str = "q", **fields: object) -> Task:
    return await submitted(
        store, conversation_id=TALK, input={"prompt": text}, **fields
    )


async def replace(client: Redis, name: str) -> None:
    key = getattr(KEYS, name)
    await client.delete(key)
    await client.set(key, "foreign")


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "vanished"])
@pytest.mark.parametrize("name", DAMAGED)
async def test_a_turn_ends_and_the_next_begins_though_its_conversation_is_damaged(
    store: RedisTaskStore, client: Redis, name: str, how: str
) -> None:
    first = await asked(store)
    lease = (await claim(store, first)).lease
    await store.finish(lease, answered(first), running_seconds=0)
    turn, after = await asked(store), await asked(store)
    seconds = 0.01 if how == "vanished" else 30.0
    lease = (await claim(store, turn, lease_seconds=seconds)).lease
    await replace(client, name)
    if how in ("completed", "failed"):
        ending = answered(turn) if how == "completed" else failed()
        await store.finish(lease, ending, running_seconds=0)
    else:
        await store.cancel("default", turn.id)
    if how == "cancelled":
        end = Ending(status=TaskStatus.CANCELLED)
        await store.finish(lease, end, running_seconds=0)
    status = TaskStatus.CANCELLED if how == "vanished" else TaskStatus(how)
    await sweep_until(store, turn, status)
    data = (await store.events("default", turn.id))[-1].data
    assert (data.get("turn") == "dropped") is (how == "completed")
    assert isinstance(await try_claim(store, after), Claim)


@pytest.mark.parametrize("name", ["head", "log"])
async def test_who_reads_a_conversation_that_is_damaged_is_told_so(
    store: RedisTaskStore, client: Redis, name: str
) -> None:
    turn = await asked(store)
    lease = (await claim(store, turn)).lease
    await store.finish(lease, answered(turn), running_seconds=0)
    await replace(client, name)
    with pytest.raises(ConversationUnreadable, match="writes to our keys"):
        await RedisConversationStore(client).read_window("default", TALK)


async def test_a_turn_that_cannot_be_accepted_stands_before_no_other(
    store: RedisTaskStore, client: Redis
) -> None:
    await replace(client, "head")
    with pytest.raises(StoreUnavailable):
        await asked(store)
    await client.delete(KEYS.head)
    assert isinstance(await try_claim(store, await asked(store)), Claim)


async def test_a_conversation_of_which_only_parts_are_left_begins_anew(
    store: RedisTaskStore, client: Redis
) -> None:
    first = await asked(store, "lost")
    lease = (await claim(store, first)).lease
    await store.finish(lease, answered(first), running_seconds=0)
    await client.delete(KEYS.head)
    turn = await asked(store, "new")
    lease = (await claim(store, turn)).lease
    await store.finish(lease, answered(turn), running_seconds=0)
    read = await RedisConversationStore(client).read("default", TALK)
    assert contents(read) == ["new", "done"]
    assert await client.hkeys(KEYS.seen) == [f"turn:{turn.id}"]


async def test_a_page_of_large_messages_is_read_in_pieces(client: Redis) -> None:
    """Redis does nothing else while it reads one."""
    conversations = RedisConversationStore(client)
    await created(conversations)
    large = [Message(role=Role.USER, content="x" * 100_000)] * 10
    for _ in range(5):
        await conversations.append("default", "talk", large)
    await conversations.read("default", "talk", limit=1)  # the script is there now
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert len(await conversations.read("default", "talk", limit=1000)) == 50
    after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 5


async def test_large_messages_behind_small_ones_are_not_looked_at_all_at_once(
    client: Redis,
) -> None:
    """Redis copies each into the script, whether it is given or not."""
    conversations = RedisConversationStore(client)
    await created(conversations)
    for size in (100_000, 1):
        messages = [Message(role=Role.USER, content="x" * size)] * 20
        await conversations.append("default", "talk", messages)
    async with client.monitor() as monitor:
        assert len(await conversations.read("default", "talk", limit=1000)) == 40
        await client.echo("over")
        asked: list[str] = []
        while not asked or not asked[-1].startswith("ECHO"):
            asked.append((await monitor.next_command())["command"])
    counts = [int(each.split()[-1]) for each in asked if each.startswith("XREVRANGE")]
    assert max(counts) < 20


async def test_the_questions_of_interrupted_turns_are_written_once(
    store: RedisTaskStore, client: Redis
) -> None:
    """Each for itself they were copied with all before them."""
    await claim(store, await asked(store))
    for _ in range(20):
        await asked(store)
    async with client.monitor() as monitor:
        await asked(store, when_busy="interrupt")
        await client.echo("that was all")
        written = 0
        while "that was all" not in (seen := await monitor.next_command())["command"]:
            command = seen["command"]
            written += command.startswith("HSET") and "superseded" in command
    assert written == 1
