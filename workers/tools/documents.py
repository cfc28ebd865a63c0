r"""Documents as an agent reads them: numbered lines, search, and nothing but text.

The tools made here answer in one format that models, programs and tests may rely on:

- every line of document text stands as ``name:line: text`` (line counted from 1, blank
  lines left out), for example ``docs/recovery.md:12: A lost task is found again.``;
- every remark of ours stands in a line that begins with ``[`` and ends with ``]``;
- an empty line separates two passages.

So ``^(?P<name>[^\[].*?):(?P<line>\d+): (?P<text>.*)$`` finds the text of every result
of `search_documents` and `read_document`; a citation of it is ``[name:line]`` or
``[name:line-line]``. `list_documents` gives one remark per document.

Knows no file system; `document_roots` reads files into `Document` values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Protocol

from pydantic import Field

from workers.errors import ToolFailed
from workers.tools.passages import Passage, PassageIndex, split_passages
from workers.tools.tool import Tag, Tool

DOCUMENT_TAGS: Final[frozenset[Tag]] = frozenset({"reads_private", "reads_untrusted"})
"""A document is its owner's, and others may have written in it."""

MAX_READ_CHARACTERS = 24_000
"""Text of one `read_document`; about 6,000 tokens of English."""

MAX_LINE_CHARACTERS = 4_000
"""Of one line in a result; longer ones are minified or data."""

MAX_LISTED = 200
"""Documents that one `list_documents` names."""

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Document:
    """A text, by lines as an editor counts them."""

    name: str
    """What citations call it; a path below its root, or the submitter's name."""
    lines: tuple[str, ...]
    """Without line ends."""

    @classmethod
    def from_text(cls, name: str, text: str) -> Document:
        lines = _LINE_END.split(text)
        return cls(name, tuple(lines[:-1] if lines[-1] == "" else lines))

    def numbered(self, start: int, end: int) -> list[str]:
        """Return lines `start` to `end`, both included, as ``name:line: text``."""
        return [
            f"{self.name}:{number}: {_cut(line)}"
            for number, line in enumerate(self.lines[start - 1 : end], start)
            if line.strip()
        ]


class DocumentSource(Protocol):
    """Where documents come from."""

    def get_document(self, name: str) -> Document:
        """Return a document; may read a file.

        Raises:
            ToolFailed: there is none, or it may not be read; says which and why.
        """
        ...


class DocumentLibrary:
    """The documents of one run, and the tools with which a model reads them."""

    def __init__(
        self, documents: Iterable[Document], *, skipped: Sequence[str] = ()
    ) -> None:
        """Hold `documents`.

        Args:
            documents: With distinct names.
            skipped: Names of files that were passed over, to be told.

        Raises:
            ToolFailed: two documents share a name.
        """
        self._documents: dict[str, Document] = {}
        for document in documents:
            if self._documents.setdefault(document.name, document) is not document:
                raise ToolFailed(
                    f"two documents are named {document.name!r}; rename one of them"
                )
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self._documents)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._documents)

    def find_document(self, name: str) -> Document | None:
        """Return the document of this name, or the only one whose path ends so."""
        wanted = name.strip().removeprefix("./")
        ending = [known for known in self.names if known.endswith(f"/{wanted}")]
        if wanted not in self._documents and len(ending) == 1:
            wanted = ending[0]
        return self._documents.get(wanted)

    def get_document(self, name: str) -> Document:
        found = self.find_document(name)
        if found is None:
            listed = ", ".join(self.names[:20]) or "none"
            more = f" and {len(self) - 20} more" if len(self) > 20 else ""
            raise ToolFailed(
                f"there is no document {name[:200]!r};"
                f" the documents are: {listed}{more}"
            )
        return found

    def tools(self) -> tuple[Tool, ...]:
        """Return the tools; a second run of any of them does no harm."""
        functions = (self.search_documents, self.read_document, self.list_documents)
        return tuple(
            Tool(function, effect="pure", tags=DOCUMENT_TAGS) for function in functions
        )

    def search_documents(
        self,
        query: Annotated[
            str,
            Field(
                description="Words that the passage should hold; more specific words"
                " are better."
            ),
        ],
        limit: Annotated[
            int, Field(ge=1, le=20, description="How many passages to return.")
        ] = 6,
    ) -> str:
        """Find the passages that fit a query best, in all documents.

        Every line of the answer begins with its place, `document:line:`; cite it as
        [document:line].
        """
        hits = self._index.search(query, limit)
        if not hits:
            return (
                "[no passage holds any of these words; try others, or list_documents]"
            )
        return "\n\n".join(self._shown(hit) for hit in hits)

    def read_document(
        self,
        path: Annotated[
            str, Field(description="The document, as the other tools name it.")
        ],
        start_line: Annotated[
            int, Field(ge=1, description="The first line to read, counted from 1.")
        ] = 1,
        lines: Annotated[
            int, Field(ge=1, le=400, description="How many lines to read.")
        ] = 80,
    ) -> str:
        """Read lines of a document.

        Every line of the answer begins with its place, `document:line:`; cite it as
        [document:line].
        """
        document = self.get_document(path)
        total = len(document.lines)
        if start_line > max(total, 1):
            raise ToolFailed(
                f"{document.name} has {total} lines; start_line {start_line} is beyond"
                " its end"
            )
        end = min(total, start_line + lines - 1)
        shown: list[str] = []
        size = 0
        for number in range(start_line, end + 1):
            text = document.numbered(number, number)
            size += sum(len(line) for line in text)
            if size > MAX_READ_CHARACTERS:
                end = number - 1
                break
            shown += text
        rest = f"; read on with start_line={end + 1}" if end < total else ""
        remark = f"[{document.name}: lines {start_line}-{end} of {total}{rest}]"
        return "\n".join([*shown, remark])

    def list_documents(self) -> str:
        """List the documents, with their length and first line."""
        documents = list(self._documents.values())
        shown = [
            f"[{document.name}: {len(document.lines)} lines, {_title(document)!r}]"
            for document in documents[:MAX_LISTED]
        ]
        if len(documents) > MAX_LISTED:
            shown.append(
                f"[and {len(documents) - MAX_LISTED} more; use search_documents]"
            )
        shown += [f"[{name}: not read, too large or not text]" for name in self.skipped]
        return "\n".join(shown) or "[there are no documents]"

    def _shown(self, hit: Passage) -> str:
        section = f', section "{hit.section}"' if hit.section else ""
        remark = f"[{hit.document}: lines {hit.start}-{hit.end}{section}]"
        lines = self._documents[hit.document].numbered(hit.start, hit.end)
        return "\n".join([remark, *lines])

    @cached_property
    def _index(self) -> PassageIndex:
        return PassageIndex(
            passage
            for document in self._documents.values()
            for passage in split_passages(document.name, document.lines)
        )


def _title(document: Document) -> str:
    first = next((line for line in document.lines if line.strip()), "")
    return first.strip("#=* ")[:80]


def _cut(line: str) -> str:
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    return f"{line[:MAX_LINE_CHARACTERS]}… [{len(line)} characters]"
