"""What the demo prints at its end. Never lets scripted text pass for a model's."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime

import click
from pydantic import JsonValue

from orchestrator.cli.progress import total_tokens
from orchestrator.cli.waiting import failure_line, summary
from orchestrator.events import EventType, TaskEvent
from orchestrator.plain_text import one_line, plain
from orchestrator.task import Task, TaskStatus, Usage

_LONGEST_QUOTE = 90
_LONGEST_NAME = 44
_LEAST_ROOM = 24
"""A terminal narrower than this wraps the text after all."""


def print_answer(task: Task, events: Sequence[TaskEvent], *, scripted: bool) -> None:
    """Print the research task: answer, citations, steps, what it took."""
    click.secho(f"\nAnswer{_whose(scripted)}", bold=True)
    if task.result is None:
        click.echo(f"  none: {task.status.value}, {failure_line(task)}")
        return
    click.echo(plain(task.result.content))
    _print_citations(task.result.output)
    click.secho("\nSteps", bold=True)
    for event in events:
        _print_step(event)
    click.echo(f"  {summary(task.result)}")


def _whose(scripted: bool) -> str:
    return " (from the scripted endpoint, no model answered)" if scripted else ""


def _print_step(event: TaskEvent) -> None:
    seconds = event.data.get("seconds")
    match event.type:
        case EventType.COMPLETION_RECORDED:
            what = f"{total_tokens(event.data.get('usage'))} tokens"
            name = "completion"
        case EventType.TOOL_CALL_COMPLETED | EventType.TOOL_CALL_FAILED:
            error = event.data.get("error")
            what = f"failed: {error}" if error else ""
            name = str(event.data.get("name"))
        case _:
            return
    click.echo(f"  {one_line(name, limit=24):<26}{seconds:>7} s  {what}")


def _print_citations(output: JsonValue) -> None:
    citations = output.get("citations") if isinstance(output, dict) else None
    if not isinstance(citations, list) or not citations:
        return
    click.secho("\nCitations, checked against the documents", bold=True)
    for citation in citations:
        if isinstance(citation, dict):
            place = f"{citation.get('document')}:{citation.get('line_start')}"
            limit = min(_LONGEST_QUOTE, _room(len(place) + 4))
            quote = one_line(str(citation.get("quote", "")), limit=limit)
            click.echo(f"  {plain(place)}  {quote}")


def print_summaries(
    tasks: Sequence[Task], names: Sequence[str], *, scripted: bool
) -> None:
    """Print the batch, one line each."""
    done = sum(task.status is TaskStatus.COMPLETED for task in tasks)
    click.secho(f"\nSummaries: {done} of {len(tasks)}{_whose(scripted)}", bold=True)
    wide = min(_LONGEST_NAME, _room(4) // 2)
    for name, task in zip(names, tasks, strict=True):
        text = f"{task.status.value}: {failure_line(task)}"
        if task.result is not None:
            text = task.result.content
        shown = one_line(text, limit=_room(wide + 4))
        click.echo(f"  {one_line(name, limit=wide):<{wide}}  {shown}")


def _room(used: int) -> int:
    """Return the columns that a line of the terminal has left, at least a few."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 120
    return max(_LEAST_ROOM, width - used)


def print_totals(tasks: Sequence[Task], *, scripted: bool, seconds: float) -> None:
    """Print what all tasks took together."""
    usage = sum((t.result.stats.usage for t in tasks if t.result), Usage())
    completions = sum(t.result.stats.completions for t in tasks if t.result)
    counted = " (counted by the scripted endpoint)" if scripted else ""
    click.echo(
        f"{len(tasks)} tasks, {completions} completions, {usage.input_tokens} input and"
        f" {usage.output_tokens} output tokens{counted}"
    )
    spans = [_seconds(task.started_at, task.finished_at) for task in tasks]
    click.echo(
        f"All of them in {seconds:.1f} s; together they ran for {sum(spans):.1f} s"
    )


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return (end - start).total_seconds() if start and end else 0.0
