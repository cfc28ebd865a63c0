from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations import ContextTooLong, Message, Role
from conversations.fitting import fit_history, fit_turn
from conversations.history import check_history
from conversations.window import tokens_of
from tests.unit.conversations.histories import (
    answer,
    calls,
    histories,
    patient,
    result,
    system,
    user,
)


def total(messages: tuple[Message, ...]) -> int:
    return sum(tokens_of(message) for message in messages)


@patient
@given(histories, histories, st.integers(min_value=1, max_value=400))
def test_what_is_fitted_is_valid_and_fits_or_is_refused(
    history: list[Message], turn: list[Message], tokens: int
) -> None:
    fitted = fit_history(history, turn, tokens=tokens)
    check_history(fitted)
    kept = [m for m in history if m.role is Role.SYSTEM or m.pinned]
    assert [m for m in fitted if m.role is Role.SYSTEM or m.pinned] == kept
    with suppress(ContextTooLong):
        shortened = fit_turn(fitted, turn, tokens=tokens)
        check_history(shortened)
        assert total(fitted) + total(shortened) <= tokens


def test_history_goes_first_and_leaves_room_for_what_comes() -> None:
    history = [system(), *[answer("x" * 400) for _ in range(10)]]
    fitted = fit_history(history, [user()], tokens=600)
    assert fitted[0] == history[0]
    assert 0 < len(fitted) < 6
    again = fit_history(fitted, [user(), answer("y" * 80)], tokens=600)
    assert again == fitted


def test_the_biggest_tool_result_is_shortened_visibly() -> None:
    turn = [user(), calls("1", "2"), result("1", "a" * 8000), result("2", "b" * 100)]
    fitted = fit_turn([], turn, tokens=1000)
    assert fitted[3] == turn[3]
    assert len(fitted[2].content) < 4500
    assert "of 8000 characters left out to fit the context]" in fitted[2].content
    assert turn[2].content == "a" * 8000


def test_a_turn_that_cannot_be_shortened_is_refused_by_name() -> None:
    with pytest.raises(ContextTooLong, match="raise context_tokens"):
        fit_turn([], [user("x" * 4000)], tokens=100)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("size", [272, 9_999, 10_050, 1_000_000])
def test_a_turn_is_refused_when_its_shortest_results_are_still_too_long(
    size: int,
) -> None:
    turn = [user(), calls("1", "2"), result("1", "a" * size), result("2", "b" * size)]
    with pytest.raises(ContextTooLong):
        fit_turn([], turn, tokens=50)


def test_calls_whose_results_begin_the_turn_stay_in_the_history() -> None:
    history = [user("x" * 900), answer("y" * 900), calls("1")]
    turn = [result("1"), user("z" * 900)]
    fitted = fit_history(history, turn, tokens=60)
    assert fitted == (history[-1],)
    check_history([*fitted, *turn])


def test_the_question_stays_where_the_turn_brings_results_alone() -> None:
    made = calls("1")
    history = [user("old"), answer("x" * 400), user("new"), made]
    fitted = fit_history(history, [result("1", "y" * 40)], tokens=30)
    assert fitted == (history[2], made)
