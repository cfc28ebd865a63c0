"""What of a long history is to be summarised before a model sees the rest."""

from __future__ import annotations

import pytest

from conversations import (
    ContextTooLong,
    Conversation,
    ConversationConfig,
    Message,
    Role,
)
from conversations.memory_store import InMemoryConversationStore
from conversations.view import MAX_SUMMARISED, read_view
from tests.unit.conversations.histories import answer, user

CONFIG = ConversationConfig(
    max_messages=None, context_window=10, compaction="summarise"
)

PINNED = Message(role=Role.USER, content="name", pinned=True)


async def a_talk(*messages: Message) -> InMemoryConversationStore:
    store = InMemoryConversationStore()
    await store.create(Conversation(id="talk", config=CONFIG))
    await store.append("default", "talk", messages)
    return store


async def test_a_summary_takes_in_the_newest_of_what_is_left_out() -> None:
    said = [user(str(number)) for number in range(1, MAX_SUMMARISED + 101)]
    store = await a_talk(*said)
    view = await read_view(store, "default", "talk")
    cut = view.window.cut
    assert len(view.messages()) == len(said) - cut
    assert list(view.to_summarise) == said[cut - MAX_SUMMARISED : cut]


async def test_a_summary_takes_in_the_one_before_it_and_no_word_twice() -> None:
    summary = Message(role=Role.SYSTEM, content="so far", covers=4)
    early = [user("1"), answer("2"), user("3"), answer("4"), summary]
    late = [user(str(number)) for number in range(6, 40)]
    store = await a_talk(*early, *late)
    view = await read_view(store, "default", "talk")
    cut = view.window.cut
    assert view.to_summarise == (summary, *late[: cut - len(early)])


async def test_nothing_is_summarised_where_only_system_messages_are_left_out() -> None:
    summary = Message(role=Role.SYSTEM, content="so far", covers=2)
    rules = [Message(role=Role.SYSTEM, content=f"rule {n}") for n in range(4)]
    late = [user(str(number)) for number in range(8)]
    store = await a_talk(user("1"), answer("2"), summary, *rules, *late)
    view = await read_view(store, "default", "talk")
    assert view.window.cut > 3
    assert view.to_summarise == ()


async def test_what_is_shown_anyway_counts_for_no_refusal() -> None:
    config = ConversationConfig(context_window=2, compaction="none")
    store = InMemoryConversationStore()
    await store.create(Conversation(id="talk", config=config))
    kept = [Message(role=Role.SYSTEM, content="rule"), PINNED]
    await store.append("default", "talk", [*kept, user("1"), answer("2")])
    view = await read_view(store, "default", "talk")
    assert view.messages() == (*kept, user("1"), answer("2"))
    await store.append("default", "talk", [user("3")])
    with pytest.raises(ContextTooLong, match="needs about 5 messages, the limit is 2"):
        await read_view(store, "default", "talk")
