from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from conversations import Message, Role, StoredMessage
from conversations.history import check_history
from conversations.window import (
    choose_window,
    estimate_tokens,
    tokens_of,
    visible_window,
)
from tests.unit.conversations.histories import (
    AT,
    answer,
    calls,
    histories,
    patient,
    result,
    stored_histories,
    system,
    user,
)

limits = st.integers(min_value=1, max_value=20)
token_limits = st.none() | st.integers(min_value=1, max_value=300)


def is_subsequence(part: tuple[Message, ...], whole: list[Message]) -> bool:
    rest = iter(whole)
    return all(any(message is each for each in rest) for message in part)


@patient
@given(histories, limits, token_limits)
def test_every_window_of_every_valid_history_is_valid_and_within_its_bounds(
    messages: list[Message], window: int, tokens: int | None
) -> None:
    seen = visible_window(messages, context_window=window, context_tokens=tokens)
    check_history(seen)
    assert is_subsequence(seen, messages)
    others = [message for message in seen if message.role is not Role.SYSTEM]
    users = [message for message in messages if message.role is Role.USER]
    assert len(others) <= window
    assert len(seen) - len(others) == sum(m.role is Role.SYSTEM for m in messages)
    if users:
        assert any(message is users[-1] for message in others)
    if tokens is not None and len(others) > 1:
        assert sum(estimate_tokens(message) for message in seen) <= tokens


@patient
@given(stored_histories(metadata=st.just({}), gaps=True), limits, token_limits)
def test_the_part_that_a_store_reads_gives_the_window_of_the_whole_history(
    history: list[StoredMessage], window: int, tokens: int | None
) -> None:
    users = [each.seq for each in history if each.message.role is Role.USER][-1:]
    part = [
        stored
        for place, stored in enumerate(history)
        if place >= len(history) - window
        or stored.message.role is Role.SYSTEM
        or stored.seq in users
    ]
    seen = visible_window(history, context_window=window, context_tokens=tokens)
    assert sum(message.role is not Role.SYSTEM for message in seen) <= window
    check_history(seen)
    assert visible_window(part, context_window=window, context_tokens=tokens) == seen


def test_all_of_a_short_history_is_seen() -> None:
    messages = [user(), calls("1"), result("1"), answer()]
    assert visible_window(messages, context_window=4) == tuple(messages)
    assert visible_window([], context_window=4) == ()


def test_the_start_moves_in_steps_of_half_the_window() -> None:
    log = [
        StoredMessage(seq=seq, created_at=AT, message=user(str(seq)))
        for seq in range(1, 201)
    ]
    starts = []
    for end in range(1, 201):
        seen = visible_window(log[:end], context_window=20)
        assert len(seen) == end if end <= 20 else 10 < len(seen) <= 20
        starts.append(seen[0].content)
    assert len(set(starts)) == 19


def test_the_start_moves_in_steps_when_tokens_bound_the_window() -> None:
    log = [user("x" * 450) for _ in range(200)]
    lengths = [
        len(visible_window(log[:end], context_window=40, context_tokens=2600))
        for end in range(1, 201)
    ]
    moves = sum(after <= before for before, after in pairwise(lengths))
    assert max(lengths) == 25
    assert moves <= 200 / 5


def test_a_tool_group_that_does_not_fit_is_left_out_whole() -> None:
    messages = [user(), calls("1", "2"), result("1"), result("2")]
    assert visible_window(messages, context_window=3) == (messages[0],)
    assert visible_window(messages, context_window=4) == tuple(messages)


def test_the_newest_user_message_is_seen_before_a_long_turn() -> None:
    messages = [user("old"), user("new"), *[answer(str(n)) for n in range(9)]]
    seen = visible_window(messages, context_window=4)
    assert seen[0].content == "new"
    assert seen[-1].content == "8"


def test_a_question_larger_than_the_token_bound_is_seen_alone() -> None:
    messages = [system(), answer(), user("x" * 1000)]
    seen = visible_window(messages, context_window=9, context_tokens=50)
    assert seen == (messages[0], messages[2])


def test_what_no_server_would_accept_is_left_out() -> None:
    messages = [result("0"), user("a"), calls("1"), user("b"), calls("2")]
    assert visible_window(messages, context_window=9) == (
        messages[1],
        messages[3],
        messages[4],
    )


def test_the_estimate_counts_text_calls_and_the_frame_of_a_message() -> None:
    assert estimate_tokens(user("x" * 8)) == 6
    assert estimate_tokens(calls("1")) == 4 + 2


def test_pinned_messages_are_seen_however_old_they_are() -> None:
    pinned = Message(role=Role.USER, content="I am Ada.", pinned=True)
    messages = [pinned, *[answer(str(number)) for number in range(30)], user("new")]
    seen = visible_window(messages, context_window=4)
    assert seen[0] == pinned
    assert len(seen) <= 5


def test_the_newest_summary_stands_for_what_it_covers() -> None:
    def summary(text: str, covers: int) -> Message:
        return Message(role=Role.SYSTEM, content=text, covers=covers)

    messages = [
        system(),
        user("one"),
        answer("two"),
        summary("old", 2),
        user("five"),
        answer("six"),
        summary("new", 6),
        user("eight"),
    ]
    window = choose_window(messages, context_window=20)
    assert [message.content for message in window.messages] == [
        "be brief",
        "new",
        "eight",
    ]


def test_tokens_that_an_endpoint_counted_replace_the_estimate() -> None:
    known = user("x" * 4000).model_copy(update={"tokens": 7})
    assert tokens_of(known) == 7
    assert visible_window([known, user()], context_window=9, context_tokens=20) == (
        known,
        user(),
    )


def test_deleted_messages_leave_room_for_older_ones() -> None:
    kept = [
        StoredMessage(seq=seq, created_at=AT, message=user(str(seq)))
        for seq in range(1, 101)
        if not 60 < seq < 100
    ]
    seen = visible_window(kept, context_window=10)
    assert len(seen) > 5
    assert [message.content for message in seen][-2:] == ["60", "100"]


def test_a_summary_covers_nothing_behind_itself() -> None:
    claims = Message(role=Role.SYSTEM, content="in short", covers=1_000)
    history = [user("old"), claims, user("new"), answer("newer"), user("newest")]
    window = choose_window(history, context_window=10)
    assert window.covered == 1
    assert window.messages == (claims, *history[2:])
