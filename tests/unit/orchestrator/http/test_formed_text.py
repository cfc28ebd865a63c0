"""What a stream shows of a run whose answer is read as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.events import NewEvent
from orchestrator.http.facade.formed_text import FormedText
from orchestrator.http.facade.shown_text import AnswerChanged, ShownText
from tests.unit.orchestrator.http.test_shown_text import CALL, said, tried
from tests.unit.orchestrator.http.test_whole_texts import numbered

ANSWER = '{"city": "Oslo"}'
ANSWERED = said("msg-2", '{"city": ', '"Oslo"}')


def show(
    *parts: Sequence[NewEvent], is_live: bool = True, answer: str = ANSWER
) -> list[str]:
    shown, pieces = FormedText(ShownText(), is_live=is_live), []
    try:
        for event in numbered([event for part in parts for event in part]):
            pieces.append(shown.take(event))
        pieces.append(shown.finish(answer))
    except AnswerChanged:
        pieces.append("CHANGED")
    return [piece for piece in pieces if piece]


def test_an_answer_is_shown_as_it_comes() -> None:
    assert show(ANSWERED) == ['{"city": ', '"Oslo"}']


def test_where_tools_are_the_answer_is_shown_when_it_is_known_to_be_one() -> None:
    before = said("msg-1", '{"thought": "look"}')
    assert show(before, CALL, ANSWERED, is_live=False) == [ANSWER]


def test_what_does_not_begin_as_json_is_never_shown() -> None:
    assert show(said("msg-1", "Oslo", "!"), ANSWERED) == [ANSWER]
    assert show(said("msg-1", "```json\n", ANSWER, "\n```")) == [ANSWER]


def test_a_misfit_that_was_shown_cannot_be_taken_back() -> None:
    assert show(said("msg-1", "{}"), ANSWERED)[-1] == "CHANGED"


def test_an_answer_that_is_begun_anew_goes_on() -> None:
    anew = tried("msg-1", '{"ci'), said("msg-1.2", ANSWER)
    assert show(*anew) == ['{"ci', 'ty": "Oslo"}']


def test_words_that_were_held_back_and_begun_otherwise_have_changed_nothing() -> None:
    held = tried("msg-1", "```json\n{"), tried("msg-1", "Oslo, I")
    for begun in held:
        assert show(begun, said("msg-1.2", *ANSWER)) == [ANSWER]
        assert show(begun, said("msg-1.2", "Well"), ANSWERED) == [ANSWER]
