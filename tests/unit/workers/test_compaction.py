"""What a summary is asked of."""

from __future__ import annotations

import pytest

from conversations.message import Message, Role
from workers.compaction import MAX_CHARACTERS, summary_message, summary_request


@pytest.mark.parametrize("size", [10, 6_000, MAX_CHARACTERS, 4 * MAX_CHARACTERS])
def test_an_earlier_summary_is_in_the_next_one_however_much_was_said_since(
    size: int,
) -> None:
    earlier = summary_message("Her name is Ada.", covers=10)
    assert earlier is not None
    said = [Message(role=Role.USER, content=f"{n} {'x' * size}") for n in range(12)]
    asked = summary_request([earlier, *said], model=None).messages[1].content
    assert asked.startswith("\n----\nearlier summary: Her name is Ada.\n----\nuser: ")
    assert "user: 11 x" in asked
    assert len(asked) < MAX_CHARACTERS + 100
