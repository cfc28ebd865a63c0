from __future__ import annotations

from pathlib import Path

import pytest

from workers.agent_bench import DoubleBench
from workers.llm.double_script import InvalidScript, read_reply, read_script


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


def test_a_script_that_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text("- Good day.\n- [a\n")
    with pytest.raises(InvalidScript, match=r"cannot be read \(line 3: expected"):
        read_script(tmp_path / "script.yaml")
