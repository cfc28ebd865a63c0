"""Where an answer ends that comes whole or in pieces."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from workers.llm.stop_sequences import StopSequences

TEXTS = st.text(alphabet="ab\n", max_size=12)
SEQUENCES = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=4)


@example(pieces=["ab", "a"], sequences=["aba", "b"])
@example(pieces=["a", "b"], sequences=["b", "ab"])
@given(pieces=st.lists(TEXTS, max_size=8), sequences=SEQUENCES)
def test_pieces_show_what_the_whole_has(pieces: list[str], sequences: list[str]):
    stop = StopSequences(sequences)
    shown = [stop.take(piece) for piece in pieces]
    assert "".join(shown) + stop.rest() == stop.cut("".join(pieces))


def test_what_may_begin_a_sequence_is_held_back_and_nothing_else():
    stop = StopSequences(["\nObservation:"])
    pieces = ["Thought: a", "\nObs", "cure", "\nObservation: b", "c"]
    assert [stop.take(p) for p in pieces] == ["Thought: a", "", "\nObscure", "", ""]
    assert stop.rest() == ""


def test_without_sequences_all_is_shown():
    stop = StopSequences()
    assert (stop.take("a\n"), stop.rest(), stop.cut("a\n")) == ("a\n", "", "a\n")
