"""What `celeriac conversations` shows of a message."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from conversations.message import Message, Role, StoredMessage, ToolCall
from orchestrator.cli.conversations import _print_message


def test_names_of_tools_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ToolCall(id="1", name="look\x1b[2J\n[9] user")
    message = Message(role=Role.ASSISTANT, tool_calls=(call,))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    _print_message(StoredMessage(seq=1, created_at=at, message=message))
    assert capsys.readouterr().out == "[1] assistant calls look\\x1b[2J [9] user\n"
