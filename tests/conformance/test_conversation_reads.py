"""What every conversation store gives back: pages, histories and windows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationStore,
    InvalidHistory,
    Message,
    Role,
    StoredMessage,
)
from tests.conformance.conversation_steps import (
    answer,
    calls,
    created,
    keeping,
    result,
    seqs,
    unlimited,
    user,
)


class TestRead:
    async def test_pages_go_both_ways(self, store: ConversationStore) -> None:
        await created(store)
        await store.append("default", "talk", [user(str(n)) for n in range(1, 11)])

        async def page(**bounds: int) -> list[int]:
            return seqs(await store.read("default", "talk", **bounds))

        assert await page(limit=3) == [8, 9, 10]
        assert await page(limit=3, before=8) == [5, 6, 7]
        assert await page(limit=3, before=2) == [1]
        assert await page(limit=3, before=1) == []
        assert await page(limit=3, before=99) == [8, 9, 10]
        assert await page(limit=3, after=0) == [1, 2, 3]
        assert await page(limit=3, after=9) == [10]
        assert await page(limit=3, after=10) == []
        assert await page(limit=5, after=2, before=5) == [3, 4]

    async def test_pages_of_large_messages_are_whole(
        self, store: ConversationStore
    ) -> None:
        """Redis gives them in pieces, between which it serves others."""
        await created(store)
        large = [user("x" * (200_000 if n % 20 < 10 else 1)) for n in range(60)]
        for start in range(0, 60, 10):
            await store.append("default", "talk", large[start : start + 10])

        async def page(**bounds: int) -> list[int]:
            found = await store.read("default", "talk", **bounds)
            sizes = [len(each.message.content) for each in found]
            assert sizes == [len(large[seq - 1].content) for seq in seqs(found)]
            return seqs(found)

        assert await page(limit=1000) == [*range(1, 61)]
        assert await page(limit=1000, after=3) == [*range(4, 61)]
        assert await page(limit=1000, after=3, before=50) == [*range(4, 50)]
        assert await page(limit=33, before=50) == [*range(17, 50)]
        assert await page(limit=1) == [60]

    async def test_pages_hold_after_retention(self, store: ConversationStore) -> None:
        await created(store, config=keeping(4))
        await store.append("default", "talk", [user(str(n)) for n in range(1, 11)])
        assert seqs(await store.read("default", "talk", after=0, limit=2)) == [7, 8]
        assert seqs(await store.read("default", "talk", before=8)) == [7]
        assert seqs(await store.read("default", "talk", before=3)) == []

    async def test_the_window_read_adds_system_messages_and_the_newest_user_message(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=unlimited(window=3))
        assert (await store.read_window("default", "talk"))[1] == ()
        system = Message(role=Role.SYSTEM, content="be brief")
        await store.append("default", "talk", [user("old"), system, user("q")])
        turn = [answer(str(number)) for number in range(5)]
        await store.append("default", "talk", turn, turn="t1")
        head, messages = await store.read_window("default", "talk")
        assert head == await store.get("default", "talk")
        assert seqs(messages) == [2, 3, 6, 7, 8]

    async def test_the_window_read_holds_all_of_calls_that_await_results(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=unlimited(2))
        group = [calls("1", "2", "3", "4"), result("1"), result("2"), result("3")]
        await store.append("default", "talk", [user("a"), answer("b")])
        await store.append("default", "talk", [user("c"), *group], turn="t")
        _, read = await store.read_window("default", "talk")
        assert seqs(read) == [3, 4, 5, 6, 7]
        await store.append("default", "talk", [result("4")])
        _, read = await store.read_window("default", "talk")
        assert seqs(read) == [3, 7, 8]

    async def test_the_window_read_forgets_what_retention_dropped(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(2))
        system = Message(role=Role.SYSTEM, content="be brief")
        await store.append("default", "talk", [system, user("q")])
        await store.append("default", "talk", [answer("a"), answer("b")], turn="t1")
        _, messages = await store.read_window("default", "talk")
        assert seqs(messages) == [4]


class TestHistory:
    async def test_a_given_history_keeps_numbers_turns_and_instants(
        self, store: ConversationStore
    ) -> None:
        at = datetime(2024, 2, 29, 12, tzinfo=UTC)
        messages = [user("q", client_id="c1"), calls("1"), result("1"), calls("2")]
        history = [
            StoredMessage(seq=seq, turn="t1", created_at=at, message=message)
            for seq, message in enumerate(messages, start=5)
        ]
        head = await store.create(Conversation(id="talk"), history=history)
        assert (head.last_seq, head.dropped_messages) == (8, 4)
        assert await store.read("default", "talk") == tuple(history)
        again = await store.append("default", "talk", messages, turn="t1")
        assert again == tuple(history)
        (known,) = await store.append("default", "talk", messages[:1])
        assert known.seq == 5
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [user("b")])
        (added,) = await store.append("default", "talk", [result("2")])
        assert added.seq == 9

    async def test_retention_is_applied_to_a_given_history(
        self, store: ConversationStore
    ) -> None:
        at = datetime(2024, 2, 29, tzinfo=UTC)
        history = [
            StoredMessage(seq=seq, turn=turn, created_at=at, message=user(turn))
            for seq, turn in enumerate(["t1", "t1", "t2", "t2"], start=1)
        ]
        given = Conversation(id="talk", config=keeping(3))
        assert (await store.create(given, history=history)).dropped_messages == 2
        assert seqs(await store.read("default", "talk")) == [3, 4]


class TestWindow:
    async def test_kept_messages_and_the_newest_summary_are_read_with_the_newest(
        self, store: ConversationStore
    ) -> None:
        await store.create(
            Conversation(id="talk", config=ConversationConfig(context_window=2))
        )
        pinned = Message(role=Role.USER, content="I am Ada.", pinned=True)
        summaries = [
            Message(role=Role.SYSTEM, content=f"short {n}", covers=n) for n in (1, 2)
        ]
        answers = [answer(str(number)) for number in range(4)]
        await store.append("default", "talk", [pinned, *summaries, *answers])
        _, read = await store.read_window("default", "talk")
        assert [stored.seq for stored in read] == [1, 3, 6, 7]
        exported = await store.read("default", "talk")
        await store.create(
            Conversation(id="copy", config=ConversationConfig(context_window=2)),
            history=exported,
        )
        _, copied = await store.read_window("default", "copy")
        assert [stored.message for stored in copied] == [s.message for s in read]
