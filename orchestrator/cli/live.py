"""Follows tasks on the terminal: a live table on a TTY, plain lines elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from orchestrator.cli.output import status_text
from orchestrator.cli.progress import TaskProgress
from orchestrator.errors import OrchestratorError
from orchestrator.events import TaskEvent
from orchestrator.plain_text import one_line
from orchestrator.task_handle import AsyncTaskHandle

_REFRESHES_PER_SECOND = 4
_STEP_CHARS = 160
"""A table wraps it; enough for an error with its remedy."""
_LINE_CHARS = 400


class ProgressView:
    """The progress of some tasks, as a table that is redrawn or as lines."""

    def __init__(self, labels: Mapping[str, str], *, console: Console) -> None:
        self._console = console
        self._rows = {
            task_id: TaskProgress(task_id, label) for task_id, label in labels.items()
        }

    def shown(self) -> AbstractContextManager[object]:
        """Show it for as long as the context lasts."""
        if not self._console.is_terminal:
            return nullcontext()
        return Live(
            get_renderable=self._table,
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
        )

    def apply(self, task_id: str, event: TaskEvent) -> None:
        """Take an event in."""
        row = self._rows[task_id]
        line = row.apply(event)
        if line and not self._console.is_terminal:
            self._console.print(
                Text(
                    f"{event.at:%H:%M:%S}  {row.label}"
                    f"  {one_line(line, limit=_LINE_CHARS)}"
                ),
                soft_wrap=True,
            )

    def _table(self) -> Table:
        table = Table(
            Column("task", overflow="fold"),
            "status",
            "step",
            "calls",
            "tokens",
            "time",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        now = datetime.now(UTC)
        for row in self._rows.values():
            seconds = row.seconds(now)
            table.add_row(
                Text(row.label),
                status_text(row.status),
                Text(one_line(row.step, limit=_STEP_CHARS)),
                str(row.tool_calls),
                str(row.tokens),
                "" if seconds is None else f"{seconds:.1f}s",
            )
        return table


async def follow(
    handles: Sequence[AsyncTaskHandle], labels: Mapping[str, str], *, console: Console
) -> None:
    """Show tasks until all have ended."""
    view = ProgressView(labels, console=console)

    async def read(handle: AsyncTaskHandle) -> None:
        async for event in handle.events():
            view.apply(handle.id, event)

    try:
        with view.shown():
            async with asyncio.TaskGroup() as group:
                for handle in handles:
                    group.create_task(read(handle))
    except* OrchestratorError as errors:
        raise errors.exceptions[0] from None
