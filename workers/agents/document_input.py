"""Documents as tasks and configurations name them: paths below roots, or texts."""

from __future__ import annotations

from pydantic import JsonValue

from conversations.json_value import JsonObject
from workers.errors import AgentFailed, ToolFailed
from workers.tools.document_roots import DocumentRoots, FoundDocuments
from workers.tools.documents import Document, DocumentLibrary

MAX_NAME_CHARACTERS = 200
"""Of a text that the submitter names; it stands before every line of it."""


def invalid(field: str, reason: str) -> AgentFailed:
    """Return the error of a field of the `input` or of the agent's `options`."""
    given = field.startswith("input")
    code = "invalid_input" if given else "invalid_options"
    return AgentFailed(f"{field}: {reason}", code=code)


def read_roots(options: JsonObject) -> DocumentRoots:
    """Return the allowed directories; the worker's current one by default.

    Raises:
        AgentFailed: `options.roots` is not a list of paths.
    """
    roots = options.get("roots", ["."])
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        raise invalid(
            "options.roots",
            f"must be a list of directories (got {type(roots).__name__})",
        )
    return DocumentRoots([root for root in roots if isinstance(root, str)])


def list_of_sources(sources: JsonValue, *, field: str) -> list[JsonValue]:
    """Return a list of documents, none of them read.

    Raises:
        AgentFailed: it is no list.
    """
    if isinstance(sources, list):
        return sources
    raise invalid(
        field,
        "must be a list of paths and {'name': …, 'text': …} objects"
        f" (got {type(sources).__name__})",
    )


def read_library(
    sources: JsonValue, *, field: str, roots: DocumentRoots
) -> DocumentLibrary:
    """Read a list of documents; a directory stands for the text files in it. Blocks.

    Raises:
        AgentFailed: names the entry that cannot be used, and why.
    """
    documents: dict[str, Document] = {}
    skipped: list[str] = []
    for index, source in enumerate(list_of_sources(sources, field=field)):
        place = f"{field}[{index}]"
        found = _read(source, field=place, roots=roots)
        skipped += found.skipped
        for document in found.documents:
            if documents.setdefault(document.name, document) != document:
                raise invalid(
                    place, f"another document is named {document.name!r}; rename it"
                )
    return DocumentLibrary(documents.values(), skipped=skipped)


def read_document(source: JsonValue, *, field: str, roots: DocumentRoots) -> Document:
    """Read one document. Blocks.

    Raises:
        AgentFailed: it cannot be used; says why.
    """
    documents = _read(source, field=field, roots=roots).documents
    if len(documents) != 1:
        raise invalid(
            field, f"names a directory of {len(documents)} documents; name one of them"
        )
    return documents[0]


def _read(source: JsonValue, *, field: str, roots: DocumentRoots) -> FoundDocuments:
    if isinstance(source, str) and source.strip():
        try:
            return roots.find_documents(source)
        except ToolFailed as exc:
            raise invalid(field, str(exc)) from exc
    if isinstance(source, dict):
        return FoundDocuments((_given(source, field=field),))
    raise invalid(
        field,
        "must be a path or an object {'name': …, 'text': …}"
        f" (got {'blank text' if isinstance(source, str) else type(source).__name__})",
    )


def _given(source: JsonObject, *, field: str) -> Document:
    name, text = source.get("name", "text"), source.get("text")
    if not isinstance(text, str) or not text.strip():
        raise invalid(f"{field}.text", "must be text that is not blank")
    usable = isinstance(name, str) and name.strip() and name.isprintable()
    if not usable or len(str(name)) > MAX_NAME_CHARACTERS or set(str(name)) & {*"[]"}:
        raise invalid(
            f"{field}.name",
            f"must be one line of 1 to {MAX_NAME_CHARACTERS} characters without"
            " brackets; citations are made of it",
        )
    return Document.from_text(str(name).strip(), text)
