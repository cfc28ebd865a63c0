"""What only the Redis store must do: its errors, keys, growth, and a full server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationNotFound,
    ConversationStoreUnavailable,
    StoredMessage,
)
from conversations.append_script import (
    ConversationKeys,
    append_arguments,
    append_keys,
)
from conversations.redis_store import RedisConversationStore
from conversations.script_values import PIECE, PIECE_CHARACTERS, history_pieces
from orchestrator.redis_pipeline import SharedPipeline
from tests.fake_redis import fake_redis
from tests.unit.conversations.histories import calls, result, user


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    async with fake_redis() as client:
        yield client


@pytest.fixture
async def real_client(clean_redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(clean_redis_url, decode_responses=True) as client:
        yield client


async def test_a_window_is_read_along_with_other_commands(client: Redis) -> None:
    sent: list[str] = []

    async def execute(commands: Sequence[Sequence[str | int]]) -> list[object]:
        sent.extend(str(command[0]) for command in commands)
        return await SharedPipeline(client).execute(commands)

    store = RedisConversationStore(client, execute=execute)
    with pytest.raises(ConversationNotFound):
        await store.read_window("default", "talk")
    await store.create(Conversation(id="talk"))
    await store.append("default", "talk", [user()])
    await client.script_flush()
    for _ in range(2):
        _, (stored,) = await store.read_window("default", "talk")
        assert stored.message == user()
    assert sent == ["EVALSHA"] * 4  # the creation too


async def test_a_window_that_redis_refuses_is_told_as_ours(client: Redis) -> None:
    store = RedisConversationStore(client, execute=SharedPipeline(client).execute)
    await store.create(Conversation(id="talk"))
    await store.read_window("default", "talk")
    keys = append_keys("default", "talk")
    await client.set(keys.log, "no stream")
    with pytest.raises(ConversationStoreUnavailable):
        await store.read_window("default", "talk")


async def test_an_unreachable_server_is_told_without_its_address() -> None:
    async with Redis.from_url("redis://:s3cret@127.0.0.1:1/0") as client:
        store = RedisConversationStore(client)
        with pytest.raises(
            ConversationStoreUnavailable, match="Connection refused"
        ) as e:
            await store.get("default", "talk")
    assert "s3cret" not in str(e.value)
    assert "127.0.0.1" not in str(e.value)


async def test_scripts_are_loaded_again_when_the_server_has_lost_them(
    client: Redis,
) -> None:
    store = RedisConversationStore(client)
    await store.create(Conversation(id="talk"))
    await client.script_flush()
    await store.append("default", "talk", [user()])
    assert len(await store.read("default", "talk")) == 1


async def test_a_command_that_was_sent_twice_took_effect_once(client: Redis) -> None:
    store = RedisConversationStore(client)
    await store.create(Conversation(id="talk"))
    keys = append_keys("default", "talk")
    arguments = append_arguments([user("a"), user("b")], turn=None)
    answers = [await store._append(keys=keys, args=arguments) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(await store.read("default", "talk")) == 2


async def test_every_key_names_its_tenant_and_room_and_goes_with_the_conversation(
    client: Redis,
) -> None:
    store = RedisConversationStore(client)
    await store.create(Conversation(id="talk", tenant="ada"))
    await store.append("ada", "talk", [user(), calls("1")], turn="t1")
    keys = {key async for key in client.scan_iter()}
    assert all(key.startswith("celeriac:ada:conversation:") for key in keys)
    assert keys <= set(append_keys("ada", "talk"))
    await store.delete("ada", "talk")
    left = {key async for key in client.scan_iter()}
    assert left == {append_keys("ada", "talk").tombstone}
    assert await client.ttl(left.pop()) > 0


async def test_a_time_to_live_covers_every_key_but_the_index(client: Redis) -> None:
    store = RedisConversationStore(client)
    config = ConversationConfig(ttl_seconds=60)
    await store.append(
        "ada", "talk", [user(), calls("1")], turn="t1", create_with=config
    )
    async for key in client.scan_iter():
        expires = await client.ttl(key) > 0
        assert expires == (key != append_keys("ada", "talk").tenant_index), key


async def test_side_keys_hold_nothing_of_dropped_messages(client: Redis) -> None:
    store = RedisConversationStore(client)
    config = ConversationConfig(max_messages=3, context_window=1)
    for number in range(40):
        group = [user(), calls("1"), result("1")]
        await store.append("ada", "talk", group, turn=f"t{number}", create_with=config)
        await store.append("ada", "talk", [user().model_copy()])
    keys = append_keys("ada", "talk")
    assert await client.xlen(keys.log) <= 3
    assert await client.hlen(keys.seen) <= 3
    assert await client.exists(keys.open) == 0


async def test_the_index_does_not_grow_with_expired_conversations(
    client: Redis,
) -> None:
    store = RedisConversationStore(client)
    for number in range(200):
        name = f"talk-{number}"
        await store.create(Conversation(id=name, tenant="ada"))
        await client.delete(append_keys("ada", name).head)
    assert await client.zcard(append_keys("ada", "x").tenant_index) < 50
    assert (await store.list("ada")).conversations == ()
    assert await client.zcard(append_keys("ada", "x").tenant_index) == 0


async def test_a_full_server_refuses_an_append_whole_and_still_deletes(
    real_client: Redis,
) -> None:
    store = RedisConversationStore(real_client)
    await store.create(Conversation(id="talk"))
    await store.append("default", "talk", [user()])
    await real_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(ConversationStoreUnavailable, match="out of memory"):
            await store.append("default", "talk", [user("b")], turn="t1")
        with pytest.raises(ConversationStoreUnavailable, match="out of memory"):
            await store.create(Conversation(id="other"))
        assert len(await store.read("default", "talk")) == 1
        assert await store.delete("default", "talk")
        with pytest.raises(ConversationNotFound):
            await store.append("default", "talk", [user()])
    finally:
        await real_client.config_set("maxmemory", 0)


async def test_a_stored_message_takes_less_than_twice_its_json(
    real_client: Redis,
) -> None:
    store = RedisConversationStore(real_client)
    config = ConversationConfig(max_messages=None)
    messages = [user(f"{number:0500}") for number in range(1000)]
    await store.append("default", "talk", messages, create_with=config)
    used = [
        await real_client.memory_usage(key, samples=0) or 0
        for key in append_keys("default", "talk")
    ]
    written = sum(
        len(json.dumps({"role": "user", "content": message.content}))
        for message in messages
    )
    assert sum(used) < 2 * written


async def test_a_history_of_which_a_piece_was_lost_is_not_created(
    client: Redis,
) -> None:
    """A server that came back with an older file may have forgotten some."""

    class Forgetful(RedisConversationStore):
        async def _load(self, *args: Any) -> ConversationKeys:
            aside = await super()._load(*args)
            await client.delete(*aside)
            return aside

    at = datetime(2026, 1, 1, tzinfo=UTC)
    history = [
        StoredMessage(seq=seq, created_at=at, message=user())
        for seq in range(1, PIECE + 2)
    ]
    talk = Conversation(id="talk")
    with pytest.raises(ConversationStoreUnavailable, match="has lost a part"):
        await Forgetful(client).create(talk, history=history)
    assert await client.keys() == []
    await RedisConversationStore(client).create(talk, history=history)


def test_a_history_is_brought_in_pieces_of_few_or_of_short_messages() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    texts = (
        ["x" * (PIECE_CHARACTERS // 4)] * 6
        + ["x" * 2 * PIECE_CHARACTERS]
        + ["x"] * PIECE * 2
    )
    history = [
        StoredMessage(seq=seq, turn="t", created_at=at, message=user(text))
        for seq, text in enumerate(texts, start=1)
    ]
    pieces = list(history_pieces(history))
    assert [len(piece) // 8 for piece in pieces] == [3, 3, 1, PIECE, PIECE]
    assert [seq for piece in pieces for seq in piece[::8]] == [
        *range(1, len(texts) + 1)
    ]
    assert [start for piece in pieces for start in piece[4::8]] == [1] + [0] * (
        len(texts) - 1
    )
