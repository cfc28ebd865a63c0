from __future__ import annotations

from workers.seldom import Seldom


def test_the_same_is_told_once_and_something_new_at_once() -> None:
    seldom = Seldom()
    assert [seldom(text) for text in "aabab"] == [True, False, True, False, False]


def test_what_goes_on_is_told_again_after_a_while() -> None:
    seldom = Seldom(again_seconds=0)
    assert [seldom(text) for text in "aa"] == [True, True]
