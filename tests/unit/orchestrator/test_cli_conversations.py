"""What `celeriac conversations` shows and writes."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from conversations.message import Message, Role, StoredMessage, ToolCall
from orchestrator.cli.conversations import _print_message, written_whole


def test_names_of_tools_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ToolCall(id="1", name="look\x1b[2J\n[9] user")
    message = Message(role=Role.ASSISTANT, tool_calls=(call,))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    _print_message(StoredMessage(seq=1, created_at=at, message=message))
    assert capsys.readouterr().out == "[1] assistant calls look\\x1b[2J [9] user\n"


def test_an_export_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text("the one before", encoding="utf-8")
    path.chmod(0o600)
    with suppress(KeyError), written_whole(str(path)) as file:
        file.write("a part")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "the one before"
    with written_whole(str(path)) as file:
        file.write("é")
    assert path.read_bytes() == "é".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    with written_whole("/dev/null") as file:
        file.write("gone")
    assert Path("/dev/null").is_char_device()
    for path, problem in (
        (tmp_path / "none" / "talk.jsonl", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        with pytest.raises(click.BadParameter, match=problem), written_whole(str(path)):
            pass
