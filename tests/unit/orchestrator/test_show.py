"""What `celeriac show` tells of a waiting task, whose words a model chose."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

import pytest

from orchestrator.cli.show import _print_awaited, _print_state
from orchestrator.task import AwaitedCall, Task, TaskStatus
from orchestrator.task_record import parking_reason

HOSTILE_ID = "approval:1:$(touch pwned); \x1b[2J:f00"
FAR = "x" * 500


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> str:
    call = AwaitedCall(
        call_id=HOSTILE_ID,
        reason="approval",
        tool="pay",
        arguments={"memo": FAR, "to": "mallory"},
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    task = Task(
        agent_name="a",
        status=TaskStatus.WAITING,
        awaiting=(call,),
        pending_reason=parking_reason([call]),
    )
    _print_state(task)
    _print_awaited(task)
    return capsys.readouterr().out


def test_whoever_approves_has_seen_all_arguments(shown: str) -> None:
    assert FAR in shown
    assert "mallory" in shown


def test_the_command_to_copy_runs_nothing_else_and_moves_no_cursor(shown: str) -> None:
    assert "\x1b" not in shown
    [command] = [line for line in shown.splitlines() if "resolve task-" in line]
    words = shlex.split(command)
    assert words[:2] == ["celeriac", "resolve"]
    assert words[3] == HOSTILE_ID.replace("\x1b", "\\x1b")
    assert words[4:] == ["run|refuse|done|fail"]
