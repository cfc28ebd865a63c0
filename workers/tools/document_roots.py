"""Text files below allowed directories, and nothing else of the file system.

All methods read files and block; call them in a thread.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.errors import ToolFailed
from workers.tools.documents import Document

TEXT_SUFFIX = re.compile(
    r"\.(md|markdown|txt|rst|adoc|tex|org|log"
    r"|py|pyi|js|jsx|ts|tsx|go|rs|java|kt|scala|c|h|cc|cpp|hpp|cs|rb|php|swift|lua|r"
    r"|sh|sql|toml|yaml|yml|json|jsonl|csv|tsv|xml|html|css|cfg|ini|conf)",
    re.IGNORECASE,
)
"""Files that are read; others are refused, whatever they hold."""

MAX_FILE_BYTES = 2 * 1024 * 1024
"""One document; about 500,000 tokens, beyond what a run can summarise."""

MAX_TOTAL_BYTES = 16 * 1024 * 1024
"""All documents of a directory, so that the index of a run fits in memory."""

MAX_FILES = 1_000
"""Documents of a directory."""

_FOLDER = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
"""How a directory on the way is opened; where there is O_PATH, without reading it."""


@dataclass(frozen=True, slots=True)
class FoundDocuments:
    """What a path names."""

    documents: tuple[Document, ...]
    skipped: tuple[str, ...] = ()
    """Text files of the directory that are too large or not UTF-8."""


class DocumentRoots:
    """Reads documents by paths below the roots.

    A path counts after all symbolic links in it are followed: one that leads out of
    its root is refused. Hidden files are never read; in a directory, links are passed
    over.
    """

    def __init__(self, roots: Iterable[str | Path] = (".",)) -> None:
        self._given = tuple(str(root) for root in roots)

    def get_document(self, name: str) -> Document:
        """Read the text file at a path.

        Raises:
            ToolFailed: it is outside the roots, absent, hidden, too large or no text.
        """
        root, path = self._locate(name)
        if path.is_dir():
            raise ToolFailed(f"{name!r} is a directory; name a file in it")
        return _read(root, path)

    def find_documents(self, name: str) -> FoundDocuments:
        """Read the text file, or all text files of the directory, at a path.

        Raises:
            ToolFailed: as `get_document`; or the directory holds none, or too many.
        """
        root, path = self._locate(name)
        if not path.is_dir():
            return FoundDocuments((_read(root, path),))
        documents: list[Document] = []
        skipped: list[str] = []
        total = 0
        for file in _text_files(path):
            try:
                document = _read(root, file)
            except ToolFailed:
                skipped.append(file.relative_to(root).as_posix())
                continue
            documents.append(document)
            total += sum(map(len, document.lines))
            if len(documents) > MAX_FILES or total > MAX_TOTAL_BYTES:
                raise ToolFailed(
                    f"directory {name!r} holds more than {MAX_FILES} text files or"
                    f" {MAX_TOTAL_BYTES} bytes; name a part of it"
                )
        if not documents:
            raise ToolFailed(
                f"directory {name!r} holds no text files that can be read;"
                " name files such as .md or .txt"
            )
        return FoundDocuments(tuple(documents), tuple(skipped))

    def _locate(self, name: str) -> tuple[Path, Path]:
        inside = False
        for given in self._given:
            try:
                root = Path(given).resolve()
                path = (root / name).resolve()
                if not path.is_relative_to(root):
                    continue
                inside = True
                if path.exists():
                    _refuse_hidden(path.relative_to(root))
                    return root, path
            except (OSError, RuntimeError, ValueError) as exc:
                raise ToolFailed(f"{name[:200]!r} is not a usable path") from exc
        roots = ", ".join(self._given) or "none"
        reason = "does not exist below" if inside else "is outside"
        here = ", the worker's directory" if self._given == (".",) else ""
        raise ToolFailed(
            f"{name[:200]!r} {reason} the allowed roots ({roots}{here});"
            " name another, set options.roots of the agent, or send name and text"
        )


def _refuse_hidden(relative: Path) -> None:
    if any(part.startswith(".") for part in relative.parts):
        raise ToolFailed(
            f"{relative.as_posix()!r} is hidden; hidden files are not read, copy it"
            " to another name"
        )


def _text_files(directory: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__pycache__", "node_modules"))
        )
        for name in sorted(files):
            path = Path(folder, name)
            readable = TEXT_SUFFIX.fullmatch(path.suffix)
            if readable and not name.startswith(".") and not path.is_symlink():
                yield path


def _read(root: Path, path: Path) -> Document:
    name = path.relative_to(root).as_posix()
    if not TEXT_SUFFIX.fullmatch(path.suffix):
        raise ToolFailed(
            f"{name!r} is not read: its suffix {path.suffix!r} is not one of text;"
            " convert it to .md or .txt"
        )
    try:
        data = _bytes_of(root, path)
    except OSError as exc:
        raise ToolFailed(f"{name!r} cannot be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise ToolFailed(
            f"{name!r} is larger than {MAX_FILE_BYTES} bytes; divide the file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ToolFailed(
            f"{name!r} is not UTF-8 text (byte {exc.start}); convert it"
        ) from exc
    if "\0" in text:
        raise ToolFailed(f"{name!r} holds NUL bytes and is not text; convert it")
    return Document.from_text(name, text)


def _bytes_of(root: Path, path: Path) -> bytes:
    descriptor = _opened(root, path)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read(MAX_FILE_BYTES + 1)


def _opened(root: Path, path: Path) -> int:
    """Open a file below a root and follow no link on the way.

    The path is resolved: a link that appears in it now was put there meanwhile.
    """
    *folders, name = path.relative_to(root).parts or (root.name,)
    top = root if path != root else root.parent  # it may be a file
    within = os.open(top, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=within)
            os.close(within)
            within = below
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(name, flags, dir_fd=within)
    finally:
        os.close(within)
