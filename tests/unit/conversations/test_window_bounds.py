"""What a window holds at its edges: summaries, calls at the end, bounds of tokens."""

from __future__ import annotations

import pytest

from conversations import Conversation, ConversationConfig, Message, Role, StoredMessage
from conversations.errors import ContextTooLong
from conversations.window import check_whole, choose_window, tokens_of
from tests.unit.conversations.histories import AT, answer, calls, result, user


def costing(message: Message, tokens: int) -> Message:
    return message.model_copy(update={"tokens": tokens})


def test_a_summary_takes_its_tokens_of_the_window() -> None:
    summary = costing(Message(role=Role.SYSTEM, content="so far", covers=1), 50)
    history = [user("old"), summary]
    history += [costing(each, 10) for each in [user("a"), answer("b")] * 4]
    seen = choose_window(history, context_window=50, context_tokens=100).messages
    assert seen[0] is summary
    assert 1 < len(seen) < len(history) - 1
    assert sum(map(tokens_of, seen)) <= 100


@pytest.mark.parametrize("tokens", [1, 30, 1000])
def test_calls_at_the_end_that_await_results_are_shown_however_small_the_window(
    tokens: int,
) -> None:
    last = costing(calls("a", "b"), 500)
    history = [costing(each, 10) for each in [user("a"), answer("b"), user("c")]]
    window = choose_window([*history, last], context_window=50, context_tokens=tokens)
    assert window.after[-1] is last
    assert history[-1] in window.messages


@pytest.mark.parametrize("results", [[], ["a"], ["b", "b"]])
def test_calls_that_lack_a_result_in_the_middle_are_left_out(
    results: list[str],
) -> None:
    """A turn that was cut off may have left them; no server would take them."""
    broken = [calls("a", "b"), *map(result, results)]
    history = [user("one"), *broken, user("two"), answer("three")]
    seen = choose_window(history, context_window=50).messages
    assert seen == (history[0], *history[-2:])


@pytest.mark.parametrize(("most", "fits"), [(20, True), (19, False), (None, True)])
def test_a_history_that_must_be_whole_may_exceed_no_bound_of_tokens(
    most: int | None, fits: bool
) -> None:
    config = ConversationConfig(context_tokens=most, compaction="none")
    head = Conversation(id="talk", config=config, last_seq=2)
    messages = [
        StoredMessage(seq=seq, created_at=AT, message=costing(user("a"), 10))
        for seq in (1, 2)
    ]
    window = choose_window(messages, context_window=50, context_tokens=most)
    if fits:
        check_whole(head, messages, window)
        return
    with pytest.raises(ContextTooLong, match="20"):
        check_whole(head, messages, window)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("numbers", [(10**15, 10**15 + 1), (1, 10**15)])
def test_a_window_is_found_at_once_whatever_the_numbers(
    numbers: tuple[int, int],
) -> None:
    """A look at every line of the grid below would not end."""
    history = [
        StoredMessage(seq=seq, created_at=AT, message=costing(answer(), 10))
        for seq in numbers
    ]
    window = choose_window(history, context_window=50, context_tokens=10)
    assert window.messages == (history[-1].message,)
    window = choose_window(history, context_window=50, context_tokens=9)
    assert window.messages == ()
