"""Steps that the suites of the conversation stores share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import fakeredis
import pytest
from redis.asyncio import Redis

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationNotFound,
    ConversationStore,
    Message,
    Role,
    StoredMessage,
    ToolCall,
)
from conversations.memory_store import InMemoryConversationStore
from conversations.redis_store import RedisConversationStore

DEADLINE_SECONDS = 5.0
KINDS = ("memory", "fakeredis", "redis")


@asynccontextmanager
async def open_store(
    request: pytest.FixtureRequest,
) -> AsyncIterator[ConversationStore]:
    """Open an empty store of the kind that the fixture's parameter names."""
    if request.param == "memory":
        yield InMemoryConversationStore()
        return
    if request.param == "fakeredis":
        client: Redis = fakeredis.FakeAsyncRedis()
    else:
        client = Redis.from_url(
            request.getfixturevalue("clean_redis_url"), decode_responses=True
        )
    try:
        yield RedisConversationStore(client)
    finally:
        await client.aclose()


def user(text: str, **fields: object) -> Message:
    return Message(role=Role.USER, content=text, **fields)


def answer(text: str) -> Message:
    return Message(role=Role.ASSISTANT, content=text)


def calls(*ids: str) -> Message:
    made = tuple(ToolCall(id=each, name="look", arguments={"a": []}) for each in ids)
    return Message(role=Role.ASSISTANT, tool_calls=made)


def result(call_id: str) -> Message:
    return Message(role=Role.TOOL, tool_call_id=call_id, content="found")


def contents(messages: Sequence[StoredMessage]) -> list[str]:
    return [stored.message.content for stored in messages]


def seqs(messages: Sequence[StoredMessage]) -> list[int]:
    return [stored.seq for stored in messages]


def unlimited(window: int = 50) -> ConversationConfig:
    return ConversationConfig(max_messages=None, context_window=window)


def keeping(count: int) -> ConversationConfig:
    return ConversationConfig(max_messages=count, context_window=1)


async def created(
    store: ConversationStore,
    name: str = "talk",
    *,
    tenant: str = "default",
    config: ConversationConfig | None = None,
) -> Conversation:
    config = config or ConversationConfig()
    return await store.create(Conversation(id=name, tenant=tenant, config=config))


async def eventually(store: ConversationStore, *, gone: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await store.read("default", gone)
            except ConversationNotFound:
                return
            await asyncio.sleep(0.01)
