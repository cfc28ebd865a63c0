from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue
from rich.console import Console

from orchestrator.cli.live import ProgressView
from orchestrator.cli.progress import TaskProgress
from orchestrator.events import EventType, TaskEvent

START = datetime(2030, 1, 1, tzinfo=UTC)


def event(type_: EventType, second: int = 0, **data: JsonValue) -> TaskEvent:
    at = START + timedelta(seconds=second)
    return TaskEvent(sequence=second, type=type_, at=at, data=data)


RUN = [
    event(EventType.TASK_CREATED, 0),
    event(EventType.TASK_STARTED, 1),
    event(EventType.PROGRESS, 2, message="3 documents to search"),
    event(
        EventType.COMPLETION_RECORDED,
        3,
        usage={"input_tokens": 10, "output_tokens": 5},
    ),
    event(EventType.TOOL_CALL_STARTED, 4, name="search"),
    event(EventType.TOOL_CALL_FAILED, 5, name="search"),
    event(EventType.TEXT_DELTA, 6, delta="x"),
    event(EventType.COMPLETION_RECORDED, 7, usage=None),
    event(EventType.TASK_COMPLETED, 8),
]


def test_progress_is_read_from_the_events() -> None:
    progress = TaskProgress("task-1", "research")
    lines = [progress.apply(item) for item in RUN]
    assert lines == [
        None,
        "running",
        "3 documents to search",
        "completion 1",
        "search",
        "search failed",
        None,
        "completion 2",
        "completed",
    ]
    assert progress.status == "completed"
    assert (progress.completions, progress.tool_calls, progress.tokens) == (2, 1, 15)
    assert progress.seconds(START + timedelta(hours=1)) == 7.0


def test_a_task_that_never_ran_took_no_time() -> None:
    progress = TaskProgress("task-1", "research")
    assert progress.seconds(START) is None
    progress.apply(event(EventType.TASK_CANCELLED, 5))
    assert progress.seconds(START) == 0.0


def test_a_released_task_is_pending_again() -> None:
    progress = TaskProgress("task-1", "research")
    progress.apply(event(EventType.TASK_STARTED, 1))
    assert progress.apply(event(EventType.TASK_RELEASED, 2)) == "pending"


def test_a_released_task_says_why_and_when_it_goes_on() -> None:
    progress = TaskProgress("task-1", "research")
    told = event(
        EventType.TASK_RELEASED,
        delay_seconds=1.3,
        reason="retry after llm_unavailable",
        code="llm_unavailable",
        message="no LLM endpoint answers; run `ollama serve`",
    )
    why = "again in 2 s: llm_unavailable: no LLM endpoint answers; run `ollama serve`"
    assert progress.apply(told) == f"pending: {why}"
    assert progress.step == why
    vanished = event(EventType.TASK_RELEASED, reason="its worker vanished")
    assert progress.apply(vanished) == "pending: its worker vanished"
    progress.apply(event(EventType.TASK_STARTED, 3))
    assert progress.step == ""


def test_without_a_terminal_progress_is_plain_lines() -> None:
    output = io.StringIO()
    view = ProgressView({"task-1": "research"}, console=Console(file=output, width=20))
    with view.shown():
        for item in RUN:
            view.apply("task-1", item)
    lines = output.getvalue().splitlines()
    assert lines[0] == "00:00:01  research  running"
    assert lines[-1] == "00:00:08  research  completed"
    assert "\x1b" not in output.getvalue()


def test_on_a_terminal_progress_is_a_table() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, color_system=None)
    view = ProgressView({"task-1": "research"}, console=console)
    with view.shown():
        for item in RUN:
            view.apply("task-1", item)
    shown = output.getvalue()
    assert "tokens" in shown
    assert "completed" in shown
    assert "7.0s" in shown


def test_what_a_tool_is_called_cannot_steer_the_terminal() -> None:
    output = io.StringIO()
    view = ProgressView({"task-1": "research"}, console=Console(file=output))
    view.apply("task-1", event(EventType.TOOL_CALL_STARTED, 1, name="\x1b[2J[red]x"))
    assert "\\x1b[2J[red]x" in output.getvalue()
