"""Forks and long histories, on every conversation store."""

from __future__ import annotations

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


async def fork(store: ConversationStore, at: int | None = None) -> Conversation:
    return await store.fork("default", "talk", Conversation(id="side"), at=at)


async def test_a_fork_below_the_newest_summary_shows_the_one_before_it(
    store: ConversationStore,
) -> None:
    await created(store, config=unlimited(window=3))
    for seq in (1, 3):
        summary = Message(role=Role.SYSTEM, content=f"up to {seq}", covers=seq)
        await store.append("default", "talk", [user(f"question {seq}"), summary])
    await fork(store, at=2)
    for text in "abc":
        await store.append("default", "side", [user(text)])
    _, window = await store.read_window("default", "side")
    assert "up to 1" in contents(window)


@pytest.mark.parametrize("at", [None, 2, 3])
async def test_a_fork_has_the_history_up_to_a_message_and_goes_its_own_way(
    store: ConversationStore, at: int | None
) -> None:
    made = await created(store, config=unlimited())
    await store.update_metadata("default", "talk", {"a": []})
    for number in range(1, 5):
        await store.append(
            "default", "talk", [user(str(number), client_id=f"c{number}")]
        )
    side = await fork(store, at)
    last = at or 4
    assert (side.last_seq, side.config, side.metadata) == (last, made.config, {"a": []})
    source = await store.read("default", "talk")
    assert await store.read("default", "side") == source[:last]
    await store.append("default", "side", [user("side")])
    await store.append("default", "talk", [user("main")])
    assert seqs(await store.read("default", "side"))[-1] == last + 1
    assert contents(await store.read("default", "side"))[-1] == "side"
    assert contents(await store.read("default", "talk")) == ["1", "2", "3", "4", "main"]
    repeated = await store.append("default", "side", [user("x", client_id="c1")])
    assert repeated[0].seq == 1
    (fresh,) = await store.append("default", "side", [user("x", client_id="c4")])
    assert fresh.message.content == ("4" if at is None else "x")
    await store.delete("default", "talk")
    assert len(await store.read("default", "side")) >= last + 1


async def test_a_fork_takes_over_what_the_window_needs(
    store: ConversationStore,
) -> None:
    await created(store, config=unlimited(window=1))
    pinned = Message(role=Role.USER, content="pinned", pinned=True)
    summary = Message(role=Role.SYSTEM, content="short", covers=1)
    old = [pinned, user("old"), summary, answer("a")]
    await store.append("default", "talk", [*old, user("new"), answer("b"), answer("c")])
    await fork(store, 4)
    _, read = await store.read_window("default", "side")
    assert contents(read) == ["pinned", "old", "short", "a"]


async def test_turns_and_open_calls_are_known_in_a_fork(
    store: ConversationStore,
) -> None:
    await created(store)
    await store.append("default", "talk", [user("a"), calls("1", "2")], turn="t1")
    await store.append("default", "talk", [user("b")], turn="t2")
    await fork(store, 2)
    assert await store.append("default", "side", [user("a")], turn="t1") == (
        await store.read("default", "talk", limit=2, before=3)
    )
    with pytest.raises(InvalidHistory):
        await store.append("default", "side", [user("c")])
    await store.append("default", "side", [result("2"), result("1"), user("c")])


async def test_many_open_calls_are_known_in_a_fork(store: ConversationStore) -> None:
    await created(store, config=unlimited())
    ids = [str(number) for number in range(40)]
    results = [result(each) for each in ids]
    await store.append("default", "talk", [user("a"), calls(*ids), *results[:30]])
    await store.append("default", "talk", [user("b")], turn="t2")
    await fork(store, 32)
    with pytest.raises(InvalidHistory):
        await store.append("default", "side", [user("c")])
    await store.append("default", "side", [*results[30:], user("c")])


async def test_a_fork_is_refused_where_it_cannot_be(store: ConversationStore) -> None:
    with pytest.raises(ConversationNotFound):
        await fork(store)
    await created(store, config=keeping(3))
    for number in range(5):
        await store.append("default", "talk", [user(str(number))])
    for gone in (0, 1, 9):
        with pytest.raises(InvalidHistory, match="still kept"):
            await fork(store, gone)
    await store.append("default", "talk", [calls("1"), result("1")])
    with pytest.raises(InvalidHistory, match="between a tool call"):
        await fork(store, 6)
    assert (await fork(store, 7)).dropped_messages == 4
    with pytest.raises(ConversationConflict):
        await fork(store)
    other = Conversation(id="x", tenant="bob")
    with pytest.raises(ConversationNotFound):
        await store.fork("bob", "talk", other, at=None)


async def test_a_history_of_many_pieces_is_created_whole(
    store: ConversationStore,
) -> None:
    await created(store, config=unlimited())
    messages = [
        user(f"number {number}", client_id=f"c{number}") for number in range(900)
    ]
    await store.append("default", "talk", [*messages, calls("1")])
    history: tuple[StoredMessage, ...] = await store.read("default", "talk", limit=2000)
    copy = Conversation(id="copy", config=unlimited())
    made = await store.create(copy, history=history)
    assert made.last_seq == 901
    assert await store.read("default", "copy", limit=2000) == history
    assert await store.append("default", "copy", [messages[5]]) == (history[5],)
    (stored,) = await store.append("default", "copy", [result("1")])
    assert stored.seq == 902
    _, window = await store.read_window("default", "copy")
    assert len(window) == 50
    with pytest.raises(ConversationConflict):
        await store.create(copy, history=history)


@pytest.mark.parametrize("at", [3, 5, 6])
async def test_a_fork_drops_whole_turns_as_its_source_does(
    store: ConversationStore, at: int
) -> None:
    """Numbers beyond the fork are given out again, where others were taken out."""
    await created(store, config=keeping(6))
    for number in range(1, 7):
        await store.append("default", "talk", [user(str(number))])
    await fork(store, at)
    for number in range(at + 1, at + 12):
        await store.append("default", "side", [user(str(number))])
        kept = await store.read("default", "side")
        assert contents(kept) == [str(n) for n in range(max(1, number - 5), number + 1)]
        head = await store.get("default", "side")
        assert head.message_count == len(kept)
