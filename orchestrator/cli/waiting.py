"""Waits for one task on the terminal: progress on stderr, the answer on stdout."""

from __future__ import annotations

import asyncio
from functools import partial

import click
from rich.console import Console

from orchestrator.cli import exit_codes
from orchestrator.cli.live import ProgressView
from orchestrator.cli.output import echo_json
from orchestrator.duration import format_seconds
from orchestrator.errors import TaskEndedWithoutResult
from orchestrator.plain_text import plain
from orchestrator.task import Task, TaskResult
from orchestrator.task_handle import AsyncTaskHandle


async def wait_and_print(
    handle: AsyncTaskHandle, *, timeout_seconds: float | None, as_json: bool
) -> int:
    """Follow a task to its end, print how it ended, return the exit code.

    Raises:
        TaskEndedWithoutResult: it ended without an answer (not with `as_json`).
        WaitTimeout: it has not ended; it goes on.
    """
    try:
        result = await _followed(handle, timeout_seconds)
    except TaskEndedWithoutResult as exc:
        if not as_json:
            raise
        echo_json(exc.task)
        return exit_codes.TASK_FAILED
    except asyncio.CancelledError:
        click.echo(f"\n{how_to_go_on(handle.id)}", err=True)
        raise
    if as_json:
        echo_json(await handle.get())
        return exit_codes.OK
    click.echo(plain(result.content))
    click.echo(summary(result), err=True)
    return exit_codes.OK


async def _followed(
    handle: AsyncTaskHandle, timeout_seconds: float | None
) -> TaskResult:
    task = await handle.get()
    view = ProgressView(
        {task.id: f"{task.agent_name} {task.id}"}, console=Console(stderr=True)
    )
    with view.shown():
        return await handle.result(
            timeout_seconds, on_event=partial(view.apply, task.id)
        )


def summary(result: TaskResult) -> str:
    """Say in one line what a result took."""
    stats = result.stats
    facts = [
        f"{stats.completions} completions",
        f"{stats.tool_calls} tool calls",
        f"{stats.usage.total_tokens} tokens",
        format_seconds(round(stats.running_seconds, 2) or 0.01),
    ]
    if result.partial:
        facts.insert(0, f"partial: {result.stop_reason.value}")
    return " · ".join(facts)


def how_to_go_on(task_id: str) -> str:
    """Say how to return to a task that goes on."""
    return (
        f"task {task_id} goes on; follow it with: celeriac watch {task_id}\n"
        f"or end it with: celeriac cancel {task_id}"
    )


def failure_line(task: Task) -> str:
    """Say in one line why a task has no answer, empty when nothing is known."""
    if task.failure is None:
        return task.pending_reason or ""
    return f"{task.failure.code}: {plain(task.failure.message)}"
