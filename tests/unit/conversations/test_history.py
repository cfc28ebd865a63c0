from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations import InvalidHistory, Message
from conversations.history import check_history, check_places
from tests.unit.conversations.histories import (
    answer,
    calls,
    histories,
    patient,
    result,
    system,
    user,
)


@patient
@given(histories)
def test_a_history_of_whole_groups_is_valid(messages: list[Message]) -> None:
    check_history(messages)


@pytest.mark.parametrize(
    "messages",
    [
        [result("1")],
        [user(), result("1")],
        [calls("1"), result("2")],
        [calls("1"), result("1"), result("1")],
        [calls("1"), user()],
        [calls("1", "2"), result("1"), answer()],
        [calls("1"), calls("2"), result("2")],
        [calls("1"), system(), result("1")],
    ],
)
def test_a_result_without_its_call_and_a_call_without_its_result_are_refused(
    messages: list[Message],
) -> None:
    with pytest.raises(InvalidHistory, match=r"messages\[\d\]"):
        check_places(dict(enumerate(messages)))


def test_open_calls_end_no_whole_history_but_may_stand_at_the_end_of_a_log() -> None:
    messages = [user(), calls("1", "2"), result("2")]
    assert check_places(dict(enumerate(messages))) == {"1"}
    with pytest.raises(InvalidHistory, match="without a result"):
        check_history(messages)


def test_a_call_id_may_come_again_after_it_was_answered() -> None:
    check_history([calls("1"), result("1"), calls("1"), result("1")])


@patient
@given(histories, st.data())
def test_a_history_without_one_of_its_results_is_refused(
    messages: list[Message], data: st.DataObject
) -> None:
    results = [place for place, each in enumerate(messages) if each.tool_call_id]
    if results:
        del messages[data.draw(st.sampled_from(results))]
        with pytest.raises(InvalidHistory):
            check_history(messages)
