from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from orchestrator.agent_config import AgentHealth
from orchestrator.cli.output import (
    ago,
    echo_json,
    echo_table,
    escaped,
    quiet_the_log_of_warnings,
    say_what_is_awaited,
    table,
)
from orchestrator.plain_text import one_line, plain, told


def test_stored_text_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[31mred\x07\r\u202e") == "a\\x1b[31mred\\x07\\x0d\\x202e"
    assert plain("two\nlines\tand é 漢 👋") == "two\nlines\tand é 漢 👋"


def test_long_text_is_cut_to_its_limit() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 100, limit=10) == "x" * 9 + "…"


def test_json_is_one_line_whatever_is_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_json({"text": "a\nb\x1bé"})
    shown = capsys.readouterr().out
    assert shown == '{"text": "a\\nb\\u001bé"}\n'
    echo_json(AgentHealth(served=True))
    assert json.loads(capsys.readouterr().out)["served"] is True


def test_json_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"text": "é\x9b2J\x7f\u202e\u2028\U000e0041 漢 👋"}
    echo_json(given)
    shown = capsys.readouterr().out
    assert shown.removesuffix("\n").isprintable()
    assert "é" in shown
    assert "👋" in shown
    assert json.loads(shown) == given
    assert escaped(shown) == shown


def test_a_table_in_a_pipe_is_tab_separated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_table(("a", "b"), [("x", 1), ("[red]y\tz", None)])
    assert capsys.readouterr().out == "x\t1\n[red]y z\tNone\n"


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3s"), (61, "1m"), (7300, "2h"), (200_000, "2d")]
)
def test_instants_are_said_in_their_largest_unit(seconds: int, said: str) -> None:
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == f"{said} ago"


def test_an_instant_that_has_not_come_is_a_dash() -> None:
    assert ago(None) == "-"


def test_a_narrow_terminal_wraps_everything_but_ids() -> None:
    output = io.StringIO()
    task_id = "task-" + "0123456789abcdef" * 2
    rows = [(task_id, "assistant", "failed", "a long note on what went wrong " * 3)]
    drawn = table(("task", "agent", "status", "note"), rows)
    Console(file=output, width=60).print(drawn, crop=False)
    assert task_id in output.getvalue()
    assert "…" not in output.getvalue()


def test_a_terminal_too_narrow_for_a_table_shows_every_cell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    task_id = "task-" + "0123456789abcdef" * 2
    rows = [(task_id, "assistant", "failed", 1, "", "why it went wrong")]
    echo_table(("task", "agent", "status", "attempts", "tags", "note"), rows)
    assert capsys.readouterr().out.splitlines() == [
        task_id,
        "  agent assistant",
        "  status failed",
        "  attempts 1",
        "  note why it went wrong",
    ]


def test_a_terminal_too_narrow_for_many_columns_breaks_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    heads = ("agent", "kind", "workers", "runs", "failures", "last", "description")
    echo_table(heads, [("researcher", "researcher", 1, 0, 0, "-", "Answers.")])
    assert "\n  description Answers.\n" in capsys.readouterr().out


def test_what_is_told_is_one_line_without_control_characters() -> None:
    assert told("a\r\n b\x1b[2J\x07\u202ec\td") == r"a b\x1b[2J\x07\x202ec d"


def test_a_person_at_a_terminal_is_told_what_is_read_and_a_pipe_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say_what_is_awaited("the input")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    say_what_is_awaited("the input")
    assert capsys.readouterr().err.startswith("type the input; Ctrl-D")


@pytest.mark.parametrize(
    "name", ["orchestrator.acceptance", "orchestrator.task_submission"]
)
def test_what_a_handle_warns_of_is_not_logged_beside_it(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger(name)
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(logging.root, "handlers", [])
    quiet_the_log_of_warnings()
    log.warning("in the way")
    assert capsys.readouterr().err == ""
