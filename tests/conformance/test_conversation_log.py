"""What every conversation store does with messages."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationConflict,
    ConversationNotFound,
    ConversationStore,
    InvalidHistory,
    Message,
    Role,
    StoredMessage,
    ToolCall,
)
from tests.conformance.conversation_steps import (
    answer,
    calls,
    contents,
    created,
    keeping,
    result,
    seqs,
    unlimited,
    user,
)


class TestAppend:
    async def test_messages_stand_in_order_with_consecutive_numbers(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        first = await store.append("default", "talk", [user("a"), answer("b")])
        second = await store.append("default", "talk", [user("c")], turn="task-1")
        assert seqs([*first, *second]) == [1, 2, 3]
        assert [stored.turn for stored in (*first, *second)] == [None, None, "task-1"]
        assert await store.read("default", "talk") == (*first, *second)
        head = await store.get("default", "talk")
        assert (head.last_seq, head.updated_at) == (3, second[0].created_at)

    async def test_every_field_and_every_character_is_kept(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        arguments = {
            "none": None,
            "empty": [],
            "object": {},
            "big": 2**53 + 1,
            "f": 1.0,
        }
        messages = [
            Message(role=Role.SYSTEM, content='\x01 🦀 \u2028 é \\ " \r\n'),
            Message(
                role=Role.ASSISTANT,
                content="thinking",
                reasoning="because",
                reasoning_field="reasoning_content",
                tool_calls=(ToolCall(id="\x01é 1", name="f", arguments=arguments),),
            ),
            Message(role=Role.TOOL, tool_call_id="\x01é 1", metadata={"a": []}),
            user("x" * 300_000),
        ]
        await store.append("default", "talk", messages)
        read = await store.read("default", "talk")
        assert [stored.message for stored in read] == messages

    async def test_the_expected_last_number_guards_against_other_writers(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user("a")], expected_last_seq=0)
        with pytest.raises(ConversationConflict, match="expected_last_seq 0"):
            await store.append("default", "talk", [user("b")], expected_last_seq=0)
        await store.append("default", "talk", [user("b")], expected_last_seq=1)
        assert contents(await store.read("default", "talk")) == ["a", "b"]

    async def test_a_known_client_id_is_answered_with_the_stored_message(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        (first,) = await store.append("default", "talk", [user("a", client_id="c1")])
        again = await store.append(
            "default",
            "talk",
            [user("other", client_id="c1"), user("b", client_id="c2")],
        )
        assert again[0] == first
        assert contents(await store.read("default", "talk")) == ["a", "b"]

    async def test_a_repeat_succeeds_although_the_last_number_has_moved(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        message = user("a", client_id="c1")
        first = await store.append("default", "talk", [message], expected_last_seq=0)
        again = await store.append("default", "talk", [message], expected_last_seq=0)
        assert again == first

    async def test_a_client_id_that_stands_twice_in_one_append_is_added_once(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        message = user("a", client_id="c1")
        stored = await store.append("default", "talk", [message, message])
        assert seqs(stored) == [1, 1]
        assert seqs(await store.read("default", "talk")) == [1]

    async def test_a_turn_enters_once(self, store: ConversationStore) -> None:
        await created(store)
        turn = [user("q"), calls("1"), result("1"), answer("a")]
        first = await store.append("default", "talk", turn, turn="task-1")
        await store.append("default", "talk", [user("between")])
        assert await store.append("default", "talk", turn, turn="task-1") == first
        assert seqs(await store.read("default", "talk")) == [1, 2, 3, 4, 5]

    async def test_an_append_may_create_the_conversation(
        self, store: ConversationStore
    ) -> None:
        for _ in range(2):
            await store.append(
                "default", "talk", [user("a")], turn="t1", create_with=keeping(9)
            )
        head = await store.get("default", "talk")
        assert (head.config, head.last_seq) == (keeping(9), 1)
        assert (await store.list("default")).conversations == (head,)

    async def test_a_refused_append_creates_and_writes_nothing(
        self, store: ConversationStore
    ) -> None:
        with pytest.raises(InvalidHistory):
            await store.append(
                "default", "talk", [user("a"), result("1")], create_with=keeping(9)
            )
        with pytest.raises(ConversationConflict):
            await store.append(
                "default",
                "talk",
                [user("a")],
                expected_last_seq=3,
                create_with=keeping(9),
            )
        with pytest.raises(ConversationNotFound):
            await store.get("default", "talk")
        assert not (await store.list("default")).conversations

    async def test_by_hand_a_result_needs_its_call_and_a_call_its_result(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        with pytest.raises(InvalidHistory, match="tool_call_id"):
            await store.append("default", "talk", [result("1")])
        await store.append("default", "talk", [calls("1", "2")])
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [user("impatient")])
        await store.append("default", "talk", [result("2")])
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [result("2")])
        await store.append("default", "talk", [result("1"), user("next")])
        assert seqs(await store.read("default", "talk")) == [1, 2, 3, 4]

    async def test_an_error_names_the_message_that_does_not_fit(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        known = user("known", client_id="a")
        await store.append("default", "talk", [known])
        for messages, problem in (
            (
                [known, user("b"), known, result("9")],
                "messages[3].tool_call_id has no call in the assistant message before"
                " it; put each tool message after the call that it answers",
            ),
            (
                [known, calls("1", "2"), answer("soon"), result("7")],
                "messages[2] has the role assistant, but 2 tool call(s) before it have"
                " no result; add their tool messages first",
            ),
        ):
            with pytest.raises(InvalidHistory) as refused:
                await store.append("default", "talk", messages)
            assert str(refused.value) == problem
        await store.append("default", "talk", [calls("1")])
        with pytest.raises(InvalidHistory, match=r"^messages\[0\] has the role user"):
            await store.append("default", "talk", [user("impatient")])

    async def test_a_turn_is_stored_although_calls_stand_open_before_it(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user("q"), calls("1")], turn="t1")
        await store.append("default", "talk", [user("never mind")], turn="t2")
        await store.append("default", "talk", [user("by hand")])
        assert seqs(await store.read("default", "talk")) == [1, 2, 3, 4]

    async def test_an_empty_append_changes_nothing(
        self, store: ConversationStore
    ) -> None:
        before = await created(store)
        assert await store.append("default", "talk", []) == ()
        assert await store.get("default", "talk") == before


class TestRetention:
    async def test_the_oldest_turns_are_dropped_whole(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(5))
        for number in (1, 2):
            turn = [user("q"), calls("1"), result("1"), answer("a")]
            await store.append("default", "talk", turn, turn=f"t{number}")
        assert seqs(await store.read("default", "talk")) == [5, 6, 7, 8]
        head = await store.get("default", "talk")
        assert (head.last_seq, head.dropped_messages) == (8, 4)

    async def test_the_newest_turn_is_kept_whole_beyond_the_limit(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(2))
        await store.append("default", "talk", [user("old")])
        turn = [user("q"), *[answer(str(number)) for number in range(120)]]
        await store.append("default", "talk", turn, turn="t1")
        kept = await store.read("default", "talk", limit=500)
        assert seqs(kept) == list(range(2, 123))
        await store.append("default", "talk", [user("new")])
        assert contents(await store.read("default", "talk")) == ["new"]
        assert (await store.get("default", "talk")).dropped_messages == 122

    async def test_by_hand_each_message_is_a_turn_but_results_go_with_their_call(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(3))
        await store.append(
            "default", "talk", [user("a"), calls("1", "2"), result("1"), result("2")]
        )
        assert seqs(await store.read("default", "talk")) == [2, 3, 4]
        await store.append("default", "talk", [answer("b")])
        assert seqs(await store.read("default", "talk")) == [5]

    async def test_a_turn_that_begins_with_results_stays_with_the_call(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(2))
        await store.append("default", "talk", [user("q"), calls("1")], turn="t1")
        await store.append("default", "talk", [result("1"), answer("a")], turn="t2")
        assert seqs(await store.read("default", "talk")) == [1, 2, 3, 4]
        await store.append("default", "talk", [user("b")], turn="t3")
        assert seqs(await store.read("default", "talk")) == [5]

    async def test_dropped_ids_are_forgotten_and_kept_ones_are_known(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(2))
        for name in ("c1", "c2", "c3"):
            await store.append("default", "talk", [user(name, client_id=name)])
        (known,) = await store.append("default", "talk", [user("x", client_id="c3")])
        (anew,) = await store.append("default", "talk", [user("x", client_id="c1")])
        assert (known.seq, anew.seq) == (3, 4)


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


class TestConcurrency:
    async def test_no_message_of_many_writers_is_lost_doubled_or_reordered(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=unlimited())

        async def write(writer: int) -> None:
            for number in range(25):
                message = user(f"{writer} {number}", client_id=f"w{writer}-{number}")
                await store.append("default", "talk", [message])
                if number % 5 == 0:
                    await store.append("default", "talk", [message])

        await asyncio.gather(*(write(writer) for writer in range(8)))
        log = await store.read("default", "talk", limit=1000)
        assert seqs(log) == list(range(1, 201))
        for writer in range(8):
            own = [text for text in contents(log) if text.startswith(f"{writer} ")]
            assert own == [f"{writer} {number}" for number in range(25)]

    async def test_turns_of_many_writers_never_interleave(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=unlimited())
        turn = [user("q"), calls("1"), result("1"), answer("a")]
        await asyncio.gather(
            *(
                store.append("default", "talk", turn, turn=f"t{number % 10}")
                for number in range(20)
            )
        )
        log = await store.read("default", "talk", limit=1000)
        turns = [log[first : first + 4] for first in range(0, 40, 4)]
        assert len(log) == 40
        assert all(len({stored.turn for stored in each}) == 1 for each in turns)

    async def test_one_of_many_guarded_writers_wins(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        outcomes = await asyncio.gather(
            *(
                store.append("default", "talk", [user("a")], expected_last_seq=0)
                for _ in range(8)
            ),
            return_exceptions=True,
        )
        refused = [each for each in outcomes if isinstance(each, ConversationConflict)]
        assert len(refused) == 7


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
