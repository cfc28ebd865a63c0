from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given

from conversations import Conversation, InvalidHistory, StoredMessage
from conversations.transcript import (
    TranscriptHead,
    TranscriptReader,
    head_line,
    message_line,
)
from tests.unit.conversations.histories import (
    AT,
    calls,
    patient,
    stored_histories,
    transcript_of,
    user,
)


def stored(seq: int, *, turn: str | None = None, text: str = "a") -> StoredMessage:
    return StoredMessage(seq=seq, turn=turn, created_at=AT, message=user(text))


class Read(NamedTuple):
    """What a whole transcript holds."""

    head: TranscriptHead
    history: list[StoredMessage]
    lines: list[int]
    last_seq: int


def read_transcript(lines: list[str]) -> Read:
    reader = TranscriptReader(1, lines[0] if lines else "")
    taken = [
        (reader.take(line, number), number)
        for number, line in enumerate(lines[1:], start=2)
    ]
    reader.check_whole()
    kept = [(message, number) for message, number in taken if message is not None]
    history = [message for message, _ in kept]
    return Read(reader.head, history, [n for _, n in kept], reader.last_seq)


def lines_of(*history: StoredMessage) -> list[str]:
    return transcript_of(Conversation(id="talk"), history)


@patient
@given(stored_histories())
def test_a_transcript_reads_back_as_it_was_written(
    history: list[StoredMessage],
) -> None:
    given_head = Conversation(id="talk", metadata={"tags": [], "u": "\u2028\x00"})
    lines = transcript_of(given_head, history)
    head, read, numbers, last = read_transcript(lines)
    assert numbers == list(range(2, len(history) + 2))
    assert last == (history[-1].seq if history else 0)
    assert read == history
    assert (head.id, head.metadata) == ("talk", given_head.metadata)
    assert head.config == given_head.config
    assert all(json.loads(line) and line.count("\n") == 1 for line in lines)


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ([stored(1), stored(3)], "gap"),
        ([stored(2), stored(1)], "gap"),
        ([stored(1, turn="t"), stored(2), stored(3, turn="t")], "stand together"),
    ],
)
def test_a_history_with_a_gap_or_a_split_turn_is_refused(
    history: list[StoredMessage], problem: str
) -> None:
    with pytest.raises(InvalidHistory, match=problem):
        read_transcript(lines_of(*history))


def test_a_repeated_client_id_is_refused() -> None:
    named = user().model_copy(update={"client_id": "c1"})
    history = [
        StoredMessage(seq=seq, created_at=AT, message=named) for seq in range(1, 3)
    ]
    with pytest.raises(InvalidHistory, match="line 3: its client_id"):
        read_transcript(lines_of(*history))


def test_a_history_that_does_not_fit_together_is_refused() -> None:
    lonely = StoredMessage(seq=1, created_at=AT, message=calls("1"))
    with pytest.raises(InvalidHistory, match="no result"):
        read_transcript(lines_of(lonely, stored(2)))


def test_a_turn_may_have_passed_over_open_calls_as_in_the_store() -> None:
    lonely = StoredMessage(seq=1, created_at=AT, message=calls("1"))
    assert len(read_transcript(lines_of(lonely, stored(2, turn="t2")))[1]) == 2


def test_numbers_of_deleted_messages_leave_no_gap() -> None:
    _, *lines = lines_of(stored(3), stored(6))
    numbers = {"last_seq": 9, "dropped_messages": 2, "deleted_messages": 5}
    head = head_line(Conversation(id="talk", **numbers))
    deleted = ['{"deleted":[4,5]}\n', '{ "deleted" : [7, 9] }\n']
    read = read_transcript([head, lines[0], deleted[0], lines[1], deleted[1]])
    assert [each.seq for each in read.history] == [3, 6]
    assert (read.lines, read.last_seq) == ([2, 4], 9)


@pytest.mark.parametrize(
    "line",
    ["[4,3]", "[5,6]", "[3,4]", "[4]", "[0,4]", "[4,1e99]", '["x",5]', "[4,null]"],
)
def test_numbers_of_deleted_messages_that_cannot_be_are_refused(line: str) -> None:
    with pytest.raises(InvalidHistory, match="line 3"):
        read_transcript([*lines_of(stored(3)), f'{{"deleted":{line}}}'])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", '"2024-01-31T12:00:00"'),
        ("seq", "9007199254740993"),
        ("seq", "0"),
        ("turn", '"a:b"'),
    ],
)
def test_a_line_that_no_store_could_hold_is_named(field: str, value: str) -> None:
    line = json.loads(lines_of(stored(1))[1]) | {field: json.loads(value)}
    with pytest.raises(InvalidHistory, match="line 2"):
        read_transcript([*lines_of(), json.dumps(line)])


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], 1),
        ([""], 1),
        ([b"{}"], 1),
        ([*lines_of(), 5], 2),
        (["not json"], 1),
        (['{"format":"other/1","id":"talk","config":{},"metadata":{}}'], 1),
        ([*lines_of(), "{}\n"], 2),
        ([*lines_of(stored(1)), "", *lines_of(stored(2))], 3),
        (
            [*lines_of(stored(1)), message_line(stored(2)).replace('"a"', r'"\ud800"')],
            3,
        ),
        ([*lines_of(stored(1)), '{"seq":2,\n'], 3),
    ],
)
def test_a_line_that_cannot_be_read_is_named(lines: list[str], line: int) -> None:
    with pytest.raises(InvalidHistory, match=f"line {line}"):
        read_transcript(lines)
