"""The stores of conversations answer alike, whatever is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import fakeredis
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, note, settings
from redis.asyncio import Redis

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationError,
    ConversationStore,
    Message,
    Role,
    StoredMessage,
)
from conversations.history import check_follows, follow
from conversations.memory_store import InMemoryConversationStore
from conversations.redis_store import RedisConversationStore
from conversations.window import visible_window
from tests.conformance.conversation_steps import answer, calls, result, user


class Act:
    """One call of a store's method."""

    def __init__(self, method: str, *args: Any, **kwargs: Any) -> None:
        self.method, self.args, self.kwargs = method, args, kwargs

    def __repr__(self) -> str:
        return f"{self.method}{self.args} {self.kwargs}"

    async def __call__(self, store: ConversationStore) -> object:
        return await getattr(store, self.method)(*self.args, **self.kwargs)


NAMES = ("talk", "side")
named = st.sampled_from(NAMES)
numbers = st.integers(min_value=0, max_value=14)


def summary(covers: int) -> Message:
    return Message(role=Role.SYSTEM, content="short", covers=covers + 1)


single = st.one_of(
    st.sampled_from(["a", "b", "c"]).map(lambda each: user(each, client_id=each)),
    st.just(user("hello")),
    st.just(user("pinned", pinned=True)),
    st.just(answer("hello")),
    st.just(calls("1", "2")),
    st.sampled_from(["1", "2"]).map(result),
    numbers.map(summary),
)
several = st.lists(single, min_size=1, max_size=4)
turns = st.lists(
    st.sampled_from(
        [[user("q")], [answer("a")], [calls("1"), result("1")], [calls("2")]]
    ),
    min_size=1,
    max_size=3,
).map(lambda parts: [message for part in parts for message in part])


def append(name: str, messages: list[Message], turn: str | None) -> Act:
    return Act("append", "default", name, messages, turn=turn)


def create(name: str, limit: int | None, hidden: bool) -> Act:
    config = ConversationConfig(max_messages=limit, context_window=3)
    return Act("create", Conversation(id=name, config=config, hidden=hidden))


def fork(name: str, to: str, at: int | None) -> Act:
    return Act("fork", "default", name, Conversation(id=to), at=at)


def branch(name: str, to: str, at: int) -> Act:
    return Act("branch", "default", name, Conversation(id=to, hidden=True), at=at)


def delete_message(name: str, seq: int) -> Act:
    return Act("delete_message", "default", name, seq)


def read(name: str, before: int | None, after: int | None) -> Act:
    return Act("read", "default", name, limit=3, before=before, after=after)


acts = st.one_of(
    st.builds(append, named, several, st.none()),
    st.builds(append, named, turns, st.sampled_from(["t1", "t2", "t3", "t4"])),
    st.builds(create, named, st.sampled_from([None, 3, 6]), st.booleans()),
    st.builds(fork, named, named, st.none() | numbers),
    st.builds(branch, named, named, numbers),
    st.builds(delete_message, named, numbers),
    st.builds(read, named, st.none() | numbers, st.none() | numbers),
)


def timeless(value: object) -> object:
    """What an answer says, without the store's instants."""
    if isinstance(value, (Conversation, StoredMessage)):
        return value.model_dump(exclude={"created_at", "updated_at"})
    if isinstance(value, tuple):
        return [timeless(each) for each in value]
    return value


async def outcome(act: Act, store: ConversationStore) -> object:
    try:
        return timeless(await act(store))
    except ConversationError as exc:
        return type(exc), str(exc)


async def state(store: ConversationStore) -> list[object]:
    seen: list[object] = []
    for name in NAMES:
        seen += [
            await outcome(Act("read", "default", name, limit=99), store),
            await outcome(Act("read_window", "default", name), store),
        ]
    listed = await store.list("default")
    return [*seen, timeless(listed.conversations)]


async def check_sound(store: ConversationStore) -> None:
    """Numbers rise, counts add up, and the window is one that a server takes."""
    for name in NAMES:
        try:
            head = await store.get("default", name)
        except ConversationError:
            continue
        kept = await store.read("default", name, limit=99)
        seqs = [stored.seq for stored in kept]
        assert seqs == sorted(set(seqs))
        assert head.message_count == len(seqs)
        _, part = await store.read_window("default", name)
        window = visible_window(part, context_window=head.config.context_window)
        open_calls: frozenset[str] = frozenset()
        for message in window:
            check_follows(open_calls, message, field="window")
            open_calls = follow(open_calls, message)


@pytest.fixture
def open_redis(request: pytest.FixtureRequest, kind: str) -> Callable[[], Redis]:
    """Opens an empty server; a real one copies a fork otherwise than fakeredis."""
    if kind == "fakeredis":
        return lambda: fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    url = request.getfixturevalue("clean_redis_url")
    return lambda: Redis.from_url(url)


@pytest.mark.timeout(180)
@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(acts, max_size=25))
@pytest.mark.parametrize("kind", ["fakeredis", "redis"])
def test_the_stores_answer_alike(
    open_redis: Callable[[], Redis], steps: list[Act]
) -> None:
    async def run() -> None:
        note(repr(steps))
        memory: ConversationStore = InMemoryConversationStore()
        async with open_redis() as client:
            await client.flushdb()
            redis: ConversationStore = RedisConversationStore(client)
            for act in [create("talk", 6, False), *steps]:
                assert await outcome(act, memory) == await outcome(act, redis)
            assert await state(memory) == await state(redis)
        await check_sound(memory)

    asyncio.run(run())
