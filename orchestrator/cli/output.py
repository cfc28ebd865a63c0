"""Text on the terminal: JSON for programs, tables and plain lines for people.

Whatever a model, a tool or a user wrote is stripped of control characters first, so
that stored text cannot steer the terminal that shows it.
"""

from __future__ import annotations

import errno
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import click
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from orchestrator.cli.encoding import output_is_utf_8
from orchestrator.plain_text import one_line

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON for programs."
)
"""The option of every command that reads."""

_STYLES = {
    "completed": "green",
    "ok": "green",
    "running": "cyan",
    "failed": "red",
    "fail": "red",
    "timed_out": "red",
    "cancelled": "yellow",
    "warn": "yellow",
}


_LEAST_COLUMN: Final = 7
"""Of each column but the first, with its gap: in narrower ones words fall apart."""


def echo_json(value: object) -> None:
    """Write a model or a plain JSON value on one line."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    click.echo(escaped(json.dumps(data, ensure_ascii=not output_is_utf_8())))


def escaped(line: str) -> str:
    """Return a line of JSON that says the same and cannot steer the terminal.

    JSON itself escapes the controls of ASCII alone: DEL, those beyond and what turns
    the direction of text may stand in it.
    """
    if line.removesuffix("\n").isprintable():
        return line
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]
        for char in line
    )


def echo_if_heard(line: str) -> None:
    """Write a line, unless the terminal has been closed."""
    try:
        click.echo(line)
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise


def say_what_is_awaited(what: str) -> None:
    """Tell a person at a terminal what standard input is read for."""
    if sys.stdin.isatty():
        click.echo(f"type {what}; Ctrl-D on a line of its own ends it", err=True)


def echo_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, or tab-separated lines without headings into a pipe.

    On a terminal too narrow for its columns each cell has a line of its own.
    """
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(one_line(str(cell), limit=200) for cell in row))
        return
    console = Console()
    lines = _texts(rows)
    beside = _LEAST_COLUMN * (len(headings) - 1)
    if _widest_first(lines) + beside <= console.width:
        console.print(table(headings, lines), crop=False)
        return
    for first, *others in lines:
        console.print(Text(first), overflow="fold")
        for heading, text in zip(headings[1:], others, strict=True):
            if text:
                told = Text.assemble(f"  {heading} ", (text, _STYLES.get(text, "")))
                console.print(told, overflow="fold")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; cells that name a status get its colour.

    The first column names things and is never cut; the others wrap.
    """
    lines = _texts(rows)
    first = Column(headings[0], no_wrap=True, min_width=_widest_first(lines))
    others = [Column(heading, overflow="fold") for heading in headings[1:]]
    drawn = Table(first, *others, box=SIMPLE_HEAD, pad_edge=False)
    for texts in lines:
        drawn.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in texts))
    return drawn


def _texts(rows: Iterable[Sequence[object]]) -> list[list[str]]:
    return [[one_line(str(cell), limit=120) for cell in row] for row in rows]


def _widest_first(lines: Sequence[Sequence[str]]) -> int:
    return max((cell_len(texts[0]) for texts in lines), default=0)


def status_text(word: str) -> Text:
    """Return a status word in its colour."""
    return Text(word, style=_STYLES.get(word, ""))


def ago(instant: datetime | None) -> str:
    """Say how long ago something was, in its largest unit."""
    if instant is None:
        return "-"
    seconds = max(0.0, (datetime.now(UTC) - instant).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit} ago"
    return f"{seconds:.0f}s ago"


def quiet_the_log_of_warnings() -> None:
    """Keep logging's last resort from writing what is printed of a handle."""
    for name in ("acceptance", "task_submission"):
        log = logging.getLogger(f"orchestrator.{name}")
        if not log.handlers:
            log.addHandler(logging.NullHandler())
