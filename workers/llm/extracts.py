"""Sentences of documents with their citations, found in what tools and prompts show.

Reads lines of the form ``name:line: text`` and text whose sentences carry citations
``[name:line]`` already; every sentence is kept word for word.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_NUMBERED = re.compile(r"^(?P<name>[^\[\s][^\[\n]*?):(?P<line>\d+): (?P<text>.*)$")
_CITED = re.compile(
    r"(?P<text>[^\[\]\n]{12,}?[.!?])\s*(?P<place>\[[^\[\]\n]+:\d[\d-]*\])"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]*_`]*\s+(?=[\"'(\[*_]*[A-Z0-9`])")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_NO_PROSE = ("#", "|", "```", "~~~", "<", "![", "[")
_WORD = re.compile(r"[a-z0-9]{3,}")
_MIN_WORDS = 4
_STOP_WORDS = re.compile(
    r"(about|also|and|any|are|been|but|can|could|did|does|for|from|had|has|have|how"
    r"|into|its|may|not|one|only|our|out|over|should|some|such|than|that|the|their"
    r"|them|then|there|these|they|this|those|through|under|was|were|what|when|where"
    r"|which|while|who|whom|whose|why|will|with|would|you|your)"
)


@dataclass(frozen=True, slots=True)
class Extract:
    """A sentence, as it stands in a document, and its place."""

    text: str
    place: str

    def __str__(self) -> str:
        return f"{self.text} {self.place}".strip()

    @property
    def document(self) -> str:
        """The document that the place names."""
        return self.place.strip("[]").rpartition(":")[0]

    @property
    def line(self) -> int:
        """The first line of the place; 1 when it names none."""
        number = self.place.strip("[]").rpartition(":")[2].partition("-")[0]
        return int(number) if number.isdigit() else 1


def find_extracts(text: str) -> list[Extract]:
    """Return the sentences of `text` that stand in documents, each once, in order."""
    numbered = [match for line in text.splitlines() if (match := _NUMBERED.match(line))]
    if numbered:
        found: Iterable[Extract] = (
            e for block in _paragraphs(numbered) for e in _sentences(block)
        )
    else:
        cited = _CITED.finditer(text)
        found = (Extract(match["text"].strip(), match["place"]) for match in cited)
    return list({extract.text: extract for extract in found}.values())


def plain_sentences(text: str) -> list[Extract]:
    """Return the sentences of a text that names no places."""
    whole = " ".join(line for line in text.splitlines() if _is_prose(line))
    sentences = map(str.strip, _SENTENCE_END.split(whole))
    return [Extract(s, "") for s in dict.fromkeys(sentences) if _is_sentence(s)]


def closest(extracts: Sequence[Extract], question: str, *, limit: int) -> list[Extract]:
    """Return those that share most words with the question, best first."""
    wanted = set(key_words(question))
    words = {extract: key_words(extract.text) for extract in extracts}
    spread = Counter(word for found in words.values() for word in set(found))

    def score(extract: Extract) -> float:
        shared = wanted & set(words[extract])
        rarity = sum(1 / math.sqrt(spread[word]) for word in shared)
        return rarity * len(shared) / (len(words[extract]) + 10)

    scores = {extract: score(extract) for extract in extracts}
    ranked = sorted(extracts, key=lambda extract: -scores[extract])
    floor = scores[ranked[0]] / 2 if ranked else 0
    return [e for e in ranked[:limit] if scores[e] > 0 and scores[e] >= floor]


def most_central(extracts: Sequence[Extract], *, limit: int) -> list[Extract]:
    """Return those that share most words with the others, in their order."""
    counts = Counter(w for extract in extracts for w in key_words(extract.text))

    def score(position: int) -> float:
        words = key_words(extracts[position].text)
        weight = sum(counts[w] for w in words) / (len(words) + 3)
        return weight * (1.5 if position == 0 else 1.0)

    chosen = sorted(range(len(extracts)), key=score, reverse=True)[:limit]
    return [extracts[position] for position in sorted(chosen)]


def key_words(text: str) -> list[str]:
    """Return the words that carry meaning, cut to their stems, in order."""
    return [_stem(word) for word in plain_words(text)]


def plain_words(text: str) -> list[str]:
    """Return the words that carry meaning, lower-case, in order."""
    return [w for w in _WORD.findall(text.lower()) if not _STOP_WORDS.fullmatch(w)]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word


def _paragraphs(lines: Iterable[re.Match[str]]) -> Iterator[list[re.Match[str]]]:
    """Yield runs of consecutive lines of prose of one document."""
    block: list[re.Match[str]] = []
    in_code = False
    for line in lines:
        fence = line["text"].lstrip().startswith(("```", "~~~"))
        in_code ^= fence
        follows = block and (
            line["name"] == block[-1]["name"]
            and int(line["line"]) == int(block[-1]["line"]) + 1
            and not _BULLET.match(line["text"])
        )
        if block and not (follows and _is_prose(line["text"])):
            yield block
            block = []
        if _is_prose(line["text"]) and not (in_code or fence):
            block.append(line)
    if block:
        yield block


def _sentences(block: Sequence[re.Match[str]]) -> Iterator[Extract]:
    """Split a paragraph into sentences, each with the lines that it stands on."""
    text, line_of = "", []
    for line in block:
        piece = _BULLET.sub("", line["text"]).strip() + " "
        text += piece
        line_of += [int(line["line"])] * len(piece)
    begin = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        sentence = text[begin:end].strip()
        if _is_sentence(sentence):
            first, last = line_of[begin], line_of[begin + len(sentence) - 1]
            lines = f"{first}-{last}" if last > first else str(first)
            yield Extract(sentence, f"[{block[0]['name']}:{lines}]")
        begin = end


def _is_prose(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(_NO_PROSE)


def _is_sentence(text: str) -> bool:
    return len(text.split()) >= _MIN_WORDS and text.rstrip("\"')*_`").endswith(
        (".", "!", "?")
    )
