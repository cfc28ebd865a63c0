"""What the demo works on: text files, whole for the question, in sections to summarise.

Texts travel in the tasks, so the demo works wherever its worker runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

DEFAULT_PATHS = (Path("README.md"), Path("docs"))
_SUFFIXES = {".md", ".txt", ".rst"}
_MOST_BYTES = 400_000
"""Of all documents together; a task's input may hold 1 MiB by default."""
_HEADING = re.compile(r"^#{1,3} +(.+?)\s*#*$", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SHORTEST_SECTION = 200
"""Characters; less is not worth a summary."""


class NamedText(NamedTuple):
    """A document or a section of one."""

    name: str
    text: str


def read_documents(paths: Sequence[Path]) -> list[NamedText]:
    """Return the text files among and below `paths`, as many as fit into a task.

    Raises:
        click.UsageError: there are none.
    """
    documents: list[NamedText] = []
    room = _MOST_BYTES
    for path in _files(paths):
        text = path.read_text(encoding="utf-8", errors="replace")
        room -= len(text.encode())
        if text.strip() and room >= 0:
            documents.append(NamedText(str(path).translate(_NO_BRACKETS), text))
    if not documents:
        shown = " or ".join(str(path) for path in paths)
        raise click.UsageError(
            f"no text files at {shown}; name some with --documents PATH"
        )
    return documents


_NO_BRACKETS = str.maketrans("[]", "()")
"""Citations stand in brackets."""


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(item for item in path.rglob("*") if item.is_file())
            yield from (item for item in found if item.suffix in _SUFFIXES)
        elif path.is_file():
            yield path


def pick_sections(documents: Sequence[NamedText], *, count: int) -> list[NamedText]:
    """Return up to `count` sections, those with most prose, in the documents' order."""
    sections = [section for item in documents for section in _sections(item)]
    most = sorted(sections, key=lambda section: -_prose_chars(section.text))[:count]
    return [section for section in sections if section in most]


def _prose_chars(text: str) -> int:
    """Count the characters outside of tables, code and headings."""
    lines = _CODE_BLOCK.sub("", text).splitlines()
    return sum(len(line) for line in lines if not line.startswith(("|", "#", "    ")))


def _sections(document: NamedText) -> Iterator[NamedText]:
    headings = list(_HEADING.finditer(document.text))
    if not headings:
        yield document
        return
    starts = [heading.start() for heading in headings]
    for heading, end in zip(headings, [*starts[1:], len(document.text)], strict=True):
        text = document.text[heading.start() : end].strip()
        if len(text) >= _SHORTEST_SECTION:
            title = heading[1].translate(_NO_BRACKETS)[:60]
            yield NamedText(f"{document.name} § {title}", text)
