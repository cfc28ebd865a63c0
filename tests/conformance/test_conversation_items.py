"""Single messages, turns, hidden conversations and branches, on every store."""

from __future__ import annotations

import pytest

from conversations import (
    Conversation,
    ConversationConfig,
    ConversationConflict,
    ConversationNotFound,
    ConversationStore,
    InvalidHistory,
    Message,
    MessageNotFound,
    Role,
    StoredMessage,
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


async def messages(
    store: ConversationStore, name: str = "talk"
) -> tuple[StoredMessage, ...]:
    return await store.read("default", name, limit=1000)


class TestFirstMessages:
    async def test_a_conversation_begins_with_its_first_messages(
        self, store: ConversationStore
    ) -> None:
        first = [user("a", client_id="c1"), calls("1"), result("1"), calls("2")]
        head = await store.create(Conversation(id="talk"), messages=first)
        assert (head.last_seq, head.message_count) == (4, 4)
        kept = await messages(store)
        assert [stored.message for stored in kept] == first
        assert {stored.created_at for stored in kept} == {head.created_at}
        assert {stored.turn for stored in kept} == {None}
        again = await store.append("default", "talk", [user("x", client_id="c1")])
        assert seqs(again) == [1]
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [user("b")])
        assert seqs(await store.append("default", "talk", [result("2")])) == [5]

    async def test_retention_holds_for_first_messages(
        self, store: ConversationStore
    ) -> None:
        given = Conversation(id="talk", config=keeping(2))
        head = await store.create(given, messages=[user(str(n)) for n in range(5)])
        assert (head.last_seq, head.dropped_messages) == (5, 3)
        assert seqs(await messages(store)) == [4, 5]


class TestDeleteMessage:
    async def test_a_message_goes_alone_and_its_number_is_not_given_out_again(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        three = [user("a"), answer("b"), user("c", client_id="c")]
        await store.append("default", "talk", three)
        head = await store.delete_message("default", "talk", 3)
        assert (head.last_seq, head.deleted_messages, head.message_count) == (3, 1, 2)
        (again,) = await store.append("default", "talk", three[2:])
        assert again.seq == 4
        assert seqs(await messages(store)) == [1, 2, 4]
        with pytest.raises(MessageNotFound, match="message 3"):
            await store.delete_message("default", "talk", 3)
        with pytest.raises(ConversationNotFound):
            await store.delete_message("other", "talk", 1)
        assert (await store.get("default", "talk")).deleted_messages == 1

    async def test_pages_meet_over_what_was_deleted(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user(str(n)) for n in range(1, 10)])
        for gone in (1, 4, 5, 9):
            await store.delete_message("default", "talk", gone)
        upwards = await store.read("default", "talk", limit=2, after=3)
        assert seqs(upwards) == [6, 7]
        assert seqs(await store.read("default", "talk", limit=2, after=5)) == [6, 7]
        assert seqs(await store.read("default", "talk", limit=3, before=6)) == [2, 3]
        assert seqs(await store.read("default", "talk", limit=2)) == [7, 8]
        assert await store.read("default", "talk", after=3, before=6) == ()

    @pytest.mark.parametrize("named", [2, 3, 4])
    async def test_calls_and_their_results_go_together(
        self, store: ConversationStore, named: int
    ) -> None:
        await created(store)
        group = [calls("1", "2"), result("2"), result("1")]
        await store.append("default", "talk", [user("a"), *group, answer("b")])
        await store.delete_message("default", "talk", named)
        assert seqs(await messages(store)) == [1, 5]

    async def test_a_deleted_call_no_longer_waits_for_its_result(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [calls("1", "2"), result("1")])
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [user("a")])
        await store.delete_message("default", "talk", 2)
        assert await messages(store) == ()
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [result("2")])
        assert seqs(await store.append("default", "talk", [user("a")])) == [3]

    async def test_calls_that_end_the_log_again_await_their_results(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [calls("1", "2"), result("2")])
        await store.append("default", "talk", [user("a"), answer("b")], turn="t")
        await store.delete_message("default", "talk", 4)
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [result("1")])
        await store.delete_message("default", "talk", 3)
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [user("c")])
        with pytest.raises(InvalidHistory):
            await store.append("default", "talk", [result("2")])
        await store.append("default", "talk", [result("1"), user("c")])

    async def test_calls_after_a_deleted_message_stay_open(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user("a"), answer("b"), calls("1")])
        await store.delete_message("default", "talk", 1)
        await store.append("default", "talk", [result("1"), user("c")])

    async def test_the_window_read_finds_the_next_newest_question_and_summary(
        self, store: ConversationStore
    ) -> None:
        def summary(text: str) -> Message:
            return Message(role=Role.SYSTEM, content=text, covers=1)

        pinned = user("pinned", pinned=True)
        covers = Message(
            role=Role.SYSTEM, content="rule", metadata={"covers": '"covers":1'}
        )
        await created(store, config=unlimited(window=1))
        old = [pinned, user("old"), summary("s1"), covers]
        new = [user("new"), summary("s2"), answer("a"), answer("b")]
        await store.append("default", "talk", [*old, *new])
        _, read = await store.read_window("default", "talk")
        assert contents(read) == ["pinned", "rule", "new", "s2", "b"]
        for gone in (5, 6):
            await store.delete_message("default", "talk", gone)
        _, read = await store.read_window("default", "talk")
        assert contents(read) == ["pinned", "old", "s1", "rule", "b"]
        for gone in (1, 2, 3):
            await store.delete_message("default", "talk", gone)
        head, read = await store.read_window("default", "talk")
        assert (contents(read), head.message_count) == (["rule", "b"], 3)

    async def test_a_turn_without_some_of_its_messages_is_still_known(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        turn = [user("a"), calls("1"), result("1"), answer("b")]
        await store.append("default", "talk", turn, turn="t1")
        await store.delete_message("default", "talk", 1)
        assert seqs(await store.append("default", "talk", turn, turn="t1")) == [2, 3, 4]
        assert seqs(await store.read_turn("default", "talk", "t1")) == [2, 3, 4]
        for gone in (2, 4):
            await store.delete_message("default", "talk", gone)
        assert await store.read_turn("default", "talk", "t1") == ()

    async def test_retention_counts_what_is_kept(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(3))
        await store.append("default", "talk", [user("1"), user("2"), user("3")])
        await store.delete_message("default", "talk", 2)
        await store.append("default", "talk", [user("4")])
        assert seqs(await messages(store)) == [1, 3, 4]
        await store.append("default", "talk", [user("5")])
        head = await store.get("default", "talk")
        assert seqs(await messages(store)) == [3, 4, 5]
        assert (head.dropped_messages, head.deleted_messages) == (1, 1)
        assert head.message_count == 3

    async def test_a_turn_without_its_first_message_is_dropped_by_itself(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(4))
        for turn in ("t1", "t2"):
            await store.append("default", "talk", [user("q"), answer("a")], turn=turn)
        for seq in (1, 3):
            await store.delete_message("default", "talk", seq)
        await store.fork("default", "talk", Conversation(id="side"), at=None)
        for name in ("talk", "side"):
            await store.append("default", name, [user("q"), answer("a")], turn="t3")
            assert seqs(await messages(store, name)) == [2, 4, 5, 6]
            await store.append("default", name, [user("q")], turn="t4")
            assert seqs(await messages(store, name)) == [4, 5, 6, 7]
            assert await store.read_turn("default", name, "t2")

    async def test_a_fork_counts_what_it_takes_over(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        await store.append("default", "talk", [user(str(n)) for n in range(1, 7)])
        for gone in (2, 5):
            await store.delete_message("default", "talk", gone)
        side = await store.fork("default", "talk", Conversation(id="side"), at=4)
        assert (side.last_seq, side.deleted_messages, side.message_count) == (4, 1, 3)
        assert seqs(await messages(store, "side")) == [1, 3, 4]
        await store.delete_message("default", "talk", 1)
        assert seqs(await messages(store, "side")) == [1, 3, 4]
        whole = await store.fork("default", "side", Conversation(id="w"), at=None)
        assert (whole.last_seq, whole.message_count) == (4, 3)
        with pytest.raises(InvalidHistory):
            await store.fork("default", "talk", Conversation(id="x"), at=5)


class TestTurns:
    async def test_a_turn_is_read_by_its_id(self, store: ConversationStore) -> None:
        await created(store)
        await store.append("default", "talk", [user("a"), answer("b")], turn="t1")
        await store.append("default", "talk", [user("by hand")])
        await store.append("default", "talk", [user("c"), answer("d")], turn="t2")
        assert seqs(await store.read_turn("default", "talk", "t1")) == [1, 2]
        assert seqs(await store.read_turn("default", "talk", "t2")) == [4, 5]
        assert await store.read_turn("default", "talk", "t3") == ()
        with pytest.raises(ConversationNotFound):
            await store.read_turn("other", "talk", "t1")

    async def test_a_turn_that_was_dropped_is_gone(
        self, store: ConversationStore
    ) -> None:
        await created(store, config=keeping(2))
        for turn in ("t1", "t2"):
            await store.append("default", "talk", [user("a"), answer("b")], turn=turn)
        assert await store.read_turn("default", "talk", "t1") == ()


class TestHidden:
    async def test_a_hidden_conversation_is_found_by_its_id_alone(
        self, store: ConversationStore
    ) -> None:
        await created(store)
        hidden = await store.create(Conversation(id="secret", hidden=True))
        assert hidden.hidden
        assert (await store.get("default", "secret")).hidden
        listed = await store.list("default")
        assert [each.id for each in listed.conversations] == ["talk"]
        copy = Conversation(id="copy", hidden=True)
        assert (await store.fork("default", "talk", copy, at=None)).hidden
        shown = Conversation(id="shown")
        assert not (await store.fork("default", "secret", shown, at=None)).hidden
        listed = await store.list("default")
        assert [each.id for each in listed.conversations] == ["shown", "talk"]
        assert await store.delete("default", "secret")
        with pytest.raises(ConversationConflict):
            await store.create(Conversation(id="secret", hidden=True))

    async def test_a_hidden_fork_has_a_time_to_live_where_its_origin_has_none(
        self, store: ConversationStore
    ) -> None:
        own = ConversationConfig(ttl_seconds=60, max_messages=7, context_window=5)
        await store.create(Conversation(id="own", config=own))
        await created(store, config=unlimited())
        for origin, wanted in (
            ("own", own),
            ("talk", unlimited().model_copy(update={"ttl_seconds": 3600.5})),
        ):
            copy = Conversation(
                id=f"{origin}-copy",
                hidden=True,
                config=ConversationConfig(ttl_seconds=3600.5),
            )
            made = await store.fork("default", origin, copy, at=None)
            assert made.config == wanted
            assert (await store.get("default", copy.id)).config == wanted


class TestBranch:
    @pytest.fixture
    async def line(self, store: ConversationStore) -> ConversationStore:
        await store.create(Conversation(id="line", hidden=True))
        await store.append("default", "line", [user("a"), answer("b")], turn="t1")
        return store

    async def branch(self, store: ConversationStore, at: int, name: str) -> str:
        copy = Conversation(id=name, hidden=True)
        return (await store.branch("default", "line", copy, at=at)).id

    async def test_the_first_goes_on_in_place_and_others_get_a_fork(
        self, line: ConversationStore
    ) -> None:
        assert await self.branch(line, 2, "b1") == "line"
        assert await self.branch(line, 2, "b2") == "b2"
        await line.append("default", "line", [user("c"), answer("d")], turn="t2")
        assert await self.branch(line, 2, "b3") == "b3"
        assert await self.branch(line, 4, "b4") == "line"
        assert contents(await messages(line, "b2")) == ["a", "b"]
        assert contents(await messages(line, "b3")) == ["a", "b"]
        assert contents(await messages(line, "line")) == ["a", "b", "c", "d"]
        assert (await line.list("default")).conversations == ()
        with pytest.raises(ConversationNotFound):
            await line.get("default", "b1")

    async def test_a_listed_conversation_is_never_gone_on_in(
        self, store: ConversationStore
    ) -> None:
        await created(store, "line")
        await store.append("default", "line", [user("a")])
        assert await self.branch(store, 1, "b1") == "b1"

    async def test_a_branch_from_what_is_not_kept_is_refused(
        self, line: ConversationStore
    ) -> None:
        for gone in (0, 3):
            with pytest.raises(InvalidHistory, match="still kept"):
                await self.branch(line, gone, "b1")
        with pytest.raises(ConversationNotFound):
            await line.branch("other", "line", Conversation(id="x"), at=2)
