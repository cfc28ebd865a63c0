"""What every conversation store does with messages."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from conversations import (
    Conversation,
    ConversationConflict,
    ConversationNotFound,
    ConversationStore,
    InvalidHistory,
    Message,
    Role,
    StoredMessage,
    ToolCall,
)
from conversations.message import MAX_SEQ
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


class TestLargeNumbers:
    """An import may bring them."""

    @pytest.mark.parametrize("seq", [10**14 - 1, 10**15, MAX_SEQ])
    async def test_a_history_goes_on_behind_them(
        self, store: ConversationStore, seq: int
    ) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        pinned = StoredMessage(
            seq=seq - 1, created_at=at, message=user("a", pinned=True)
        )
        call = StoredMessage(seq=seq, created_at=at, message=calls("1"))
        talk = Conversation(id="talk", config=keeping(3))
        await store.create(talk, history=(pinned, call))
        added = await store.append("default", "talk", [result("1")], turn="t")
        assert seqs(added) == [seq + 1]
        (again,) = await store.append(
            "default", "talk", [user("b", client_id="c")], expected_last_seq=seq + 1
        )
        assert again.seq == seq + 2
        assert await store.append("default", "talk", [user("b", client_id="c")]) == (
            again,
        )
        assert seqs(await store.read("default", "talk")) == [seq, seq + 1, seq + 2]
        await store.append("default", "talk", [user("d", pinned=True), answer("e")])
        _, window = await store.read_window("default", "talk")
        assert seqs(window) == [seq + 3, seq + 4]
        assert (await store.get("default", "talk")).last_seq == seq + 4
        fork = Conversation(id="side")
        await store.fork("default", "talk", fork, at=seq + 3)
        await store.append("default", "side", [answer("f")])
        assert seqs(await store.read("default", "side"))[-1] == seq + 4
