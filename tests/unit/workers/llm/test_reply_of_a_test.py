from __future__ import annotations

import pytest

from workers.agent_bench import DoubleBench
from workers.llm.double_script import InvalidScript, read_reply


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"tool_cals": []}, r"\(tool_cals: unknown key; did you mean tool_calls\?\)"),
        ({"status": "bad"}, r"\(status: must be a valid integer.*'bad'\); write a te"),
        (5, r"^the reply cannot be used \(it is of type int\); write a text"),
        (["a", "b"], r"\(a list of others than calls; give each reply by itself\)"),
    ],
)
def test_a_reply_that_cannot_be_used_says_what_of_it(reply: object, told: str) -> None:
    with pytest.raises(InvalidScript, match=told):
        read_reply(reply)  # type: ignore[arg-type]


def test_a_test_hears_of_it_where_it_gives_the_reply() -> None:
    bench = DoubleBench()
    try:
        with pytest.raises(InvalidScript, match="did you mean tool_calls"):
            bench.reply("fine", {"tool_cals": []})
    finally:
        bench.close()
