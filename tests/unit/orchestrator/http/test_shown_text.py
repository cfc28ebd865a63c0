"""What a stream of chat chunks shows of messages that are begun anew."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from conversations.message import ToolCall
from orchestrator.events import EventType, NewEvent
from orchestrator.http.facade.shown_text import AnswerChanged, ShownText, given_up
from tests.unit.orchestrator.http.test_whole_texts import numbered
from workers.run_events import (
    message_begun_events,
    message_cut_event,
    message_ended_events,
    text_delta_event,
    tool_started_events,
)

CALL = tool_started_events(
    ToolCall(id="c", name="f", arguments={}), item_id="call-1:c", index=1
)


def tried(item_id: str, *pieces: str) -> list[NewEvent]:
    """A message that was cut off, as the next one of its kind tells."""
    said = [text_delta_event(piece, item_id, 0) for piece in pieces]
    cut = message_cut_event("".join(pieces), item_id, 0)
    return [*message_begun_events(item_id, 0), *said, cut]


def said(item_id: str, *pieces: str) -> list[NewEvent]:
    text = "".join(pieces)
    ended = message_ended_events(text, item_id, 0)
    return [*tried(item_id, *pieces)[:-1], *ended]


def show(*parts: Sequence[NewEvent], without: Sequence[str] = ()) -> list[str]:
    """The pieces that are shown; the last says when the answer changed."""
    shown, pieces = ShownText(without), []
    try:
        for event in numbered([event for part in parts for event in part]):
            pieces.append(shown.take(event))
        shown.finish()
    except AnswerChanged:
        pieces.append("CHANGED")
    return [piece for piece in pieces if piece]


def test_a_message_is_shown_as_it_comes() -> None:
    assert show(said("msg-1", "one ", "two")) == ["one ", "two"]


def test_messages_of_a_run_do_not_run_into_each_other() -> None:
    messages = said("msg-1", "Let me see."), CALL, said("msg-2", "It ", "is.")
    assert show(*messages) == ["Let me see.", "\n\nIt ", "is."]


def test_what_was_shown_is_not_shown_again() -> None:
    second = said("msg-1.2", "one ", "two ", "three")
    assert show(tried("msg-1", "one ", "tw"), second) == ["one ", "tw", "o ", "three"]


def test_a_try_that_went_astray_is_never_shown() -> None:
    tries = (
        tried("msg-1", "one "),
        tried("msg-1.2", "other"),
        said("msg-1.3", "one two"),
    )
    assert show(*tries) == ["one ", "two"]


def test_an_answer_that_goes_on_differently_is_no_answer_to_what_was_shown() -> None:
    assert show(tried("msg-1", "one"), said("msg-1.2", "two")) == ["one", "CHANGED"]


def test_a_text_that_was_given_up_is_no_part_of_an_answer_without_text() -> None:
    assert show(tried("msg-1", "one")) == ["one", "CHANGED"]


def test_a_text_that_was_given_up_before_a_call_stays_as_said_on_the_way() -> None:
    shown = show(tried("msg-1", "one"), CALL, said("msg-2", "two"))
    assert shown == ["one", "\n\ntwo"]


def test_a_second_reader_sees_nothing_of_what_was_given_up() -> None:
    first, second = tried("msg-1", "one"), said("msg-1.2", "two")
    known = given_up(numbered([*first, *second]))
    assert show(first, second, without=known) == ["two"]


def interleaved(*messages: list[NewEvent]) -> list[NewEvent]:
    """Their events in turn, as of completions that are under way together."""
    return [event for events in zip(*messages, strict=True) for event in events]


def test_messages_that_come_together_are_shown_one_after_the_other() -> None:
    both = interleaved(said("msg-1", "A0 ", "A1"), said("msg-2", "B0 ", "B1"))
    assert show(both) == ["A0 ", "A1", "\n\nB0 B1"]


def test_one_that_ends_before_the_first_waits_for_it() -> None:
    first, second = said("msg-1", "A0 ", "A1"), said("msg-2", "B")
    together = [*first[:3], *second, *first[3:]]
    assert show(together, said("msg-3", "C")) == ["A0 ", "A1", "\n\nB", "\n\nC"]


def test_one_that_is_cut_unseen_holds_nobody_up() -> None:
    first, second = said("msg-1", "A0 ", "A1"), tried("msg-2", "B")
    together = interleaved(first[:4], second[:4])
    assert show(together, first[4:], said("msg-3", "C")) == ["A0 ", "A1", "\n\nC"]


def test_both_that_a_crash_cut_go_on() -> None:
    cut = interleaved(tried("msg-1", "A0 "), tried("msg-2", "B0 "))
    again = interleaved(said("msg-1.2", "A0 ", "A1"), said("msg-2.2", "B0 ", "B1"))
    assert "".join(show(cut, again)) == "A0 A1\n\nB0 B1"


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1), min_size=1, max_size=4))
def test_what_was_shown_is_the_answer_or_known_not_to_be(
    tries: list[list[str]],
) -> None:
    *broken, last = tries
    parts = [tried(f"msg-1.{n}", *pieces) for n, pieces in enumerate(broken, start=2)]
    pieces = show(*parts, said("msg-1.9", *last))
    answer = "".join(last)
    if pieces[-1] == "CHANGED":
        assert not answer.startswith("".join(pieces[:-1]))
    else:
        assert "".join(pieces) == answer


def test_what_is_no_text_shows_nothing() -> None:
    events = [NewEvent(type=kind, data={}) for kind in EventType]
    assert show(events) == []
