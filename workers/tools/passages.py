"""Passages of documents and the search for them: Okapi BM25 over paragraphs.

Words are compared in lower case without a plural s; languages that write without
spaces are found by whole runs of letters only.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_PASSAGE_CHARACTERS = 1_200
"""A longer paragraph is divided between lines; about 300 tokens of English."""

PROSE_SUFFIXES = frozenset({"", ".md", ".markdown", ".rst", ".txt", ".adoc"})
"""Where a line may be a heading; elsewhere `#` begins a comment."""

TERM_SATURATION = 1.5
LENGTH_WEIGHT = 0.75
"""BM25's k1 and b, at their usual values."""

_WORD = re.compile(r"[^\W_]+")
_HEADING = re.compile(r"(#{1,6}|={1,6})\s+(\S.*)")
_UNDERLINE = re.compile(r"([=\-~^])\1{2,}\s*")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some lines of a document that belong together; both ends included."""

    document: str
    section: str
    start: int
    end: int
    text: str


def split_passages(name: str, lines: Sequence[str]) -> Iterator[Passage]:
    """Yield the paragraphs of a document, each heading with the one below it."""
    prose = PurePosixPath(name).suffix.lower() in PROSE_SUFFIXES
    section, fenced, size = "", False, 0
    block: list[int] = []

    def passage() -> Passage:
        first, last = block[0], block[-1]
        text = "\n".join(lines[first : last + 1])
        return Passage(name, section, first + 1, last + 1, text)

    for index, line in enumerate(lines):
        fenced ^= line.lstrip().startswith("```")
        heading = _heading_at(lines, index) if prose and not fenced else None
        only_heading = len(block) == 1 and lines[block[0]].strip("#= ") == section
        full = size + len(line) > MAX_PASSAGE_CHARACTERS
        if block and (heading or full or (not line.strip() and not only_heading)):
            yield passage()
            block, size = [], 0
        if heading:
            section = heading
        if line.strip():
            block.append(index)
            size += len(line)
    if block:
        yield passage()


def _heading_at(lines: Sequence[str], index: int) -> str | None:
    line = lines[index].strip()
    marked = _HEADING.fullmatch(line)
    if marked:
        return marked[2].strip("#= ")
    below = lines[index + 1] if index + 1 < len(lines) else ""
    underlined = (
        _UNDERLINE.fullmatch(below)
        and line
        and len(below.rstrip()) >= len(line)
        and not _UNDERLINE.fullmatch(line)
        and (index == 0 or not lines[index - 1].strip())
    )
    return line if underlined else None


class PassageIndex:
    """Finds passages by words."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._passages = list(passages)
        self._lengths: list[int] = []
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, passage in enumerate(self._passages):
            words = _words(f"{passage.section}\n{passage.text}")
            self._lengths.append(len(words))
            for word, count in Counter(words).items():
                self._postings[word].append((index, count))
        self._mean_length = sum(self._lengths) / max(1, len(self._lengths)) or 1.0

    def search(self, query: str, limit: int) -> list[Passage]:
        """Return the best passages, best first; none when no word occurs."""
        scores: dict[int, float] = defaultdict(float)
        total = len(self._passages)
        for word in set(_words(query)):
            found = self._postings.get(word, [])
            rarity = math.log(1 + (total - len(found) + 0.5) / (len(found) + 0.5))
            for index, count in found:
                scores[index] += rarity * self._weight(index, count)
        best = sorted(scores, key=lambda index: (-scores[index], index))
        return [self._passages[index] for index in best[:limit]]

    def _weight(self, index: int, count: int) -> float:
        relative = self._lengths[index] / self._mean_length
        damping = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * relative
        return count * (TERM_SATURATION + 1) / (count + TERM_SATURATION * damping)


def _words(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if plural else word
