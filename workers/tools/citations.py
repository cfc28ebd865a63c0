"""Citations in a model's text, held against the documents that they name.

A citation is ``[document:line]`` or ``[document:line-line]``; several may share the
brackets, divided by `;` or `,`. Some models write the brackets as 【】.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from conversations.json_value import JsonObject
from workers.tools.documents import Document

MAX_QUOTE_CHARACTERS = 300
"""Of one citation; the place leads to the rest."""

MAX_CITED_LINES = 200
"""A wider citation names no place."""

_BRACKETS = re.compile(r"[\[【]([^\[\]【】\n]+)[\]】](?!\()")
_PLACE = re.compile(r"\s*(.+?):\s?L?(\d{1,9})(?:\s?[-\u2013]\s?L?(\d{1,9}))?\s*")


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in a document that exists, and what stands there."""

    document: str
    line_start: int
    line_end: int
    quote: str

    def as_json(self) -> JsonObject:
        return {
            "document": self.document,
            "line_start": self.line_start,
            "line_end": self.line_end,
            "quote": self.quote,
        }


@dataclass(frozen=True, slots=True)
class CheckedCitations:
    """The citations of a text."""

    verified: tuple[Citation, ...]
    """Each once, in order of appearance."""
    unverified: int
    """Distinct places that were cited and do not exist."""


def check_citations(
    text: str, find_document: Callable[[str], Document | None]
) -> CheckedCitations:
    """Look every citation of `text` up; what does not exist is counted, not returned.

    That a place exists does not show that it supports the sentence.
    """
    verified: dict[tuple[str, int, int], Citation] = {}
    invented: set[tuple[str, int, int]] = set()
    for name, start, end in _places(text):
        document = find_document(name)
        quote = _quote(document, start, end) if document else ""
        if document and quote:
            key = (document.name, start, end)
            verified.setdefault(key, Citation(*key, quote))
        else:
            invented.add((name, start, end))
    return CheckedCitations(tuple(verified.values()), len(invented))


def _places(text: str) -> Iterator[tuple[str, int, int]]:
    for brackets in _BRACKETS.finditer(text):
        for part in re.split(r"[;,]", brackets[1]):
            place = _PLACE.fullmatch(part)
            if place:
                yield place[1], int(place[2]), int(place[3] or place[2])


def _quote(document: Document, start: int, end: int) -> str:
    if not 1 <= start <= end <= min(len(document.lines), start + MAX_CITED_LINES):
        return ""
    lines = (line.strip() for line in document.lines[start - 1 : end])
    quote = " ".join(line for line in lines if line)
    if len(quote) <= MAX_QUOTE_CHARACTERS:
        return quote
    return f"{quote[:MAX_QUOTE_CHARACTERS]}…"
