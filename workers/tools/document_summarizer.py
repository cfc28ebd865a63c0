"""The `summarize_document` tool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from conversations.message import Message
from workers.errors import ToolFailed
from workers.llm.provider import CompletionRequest, LLMProvider
from workers.tools.citations import check_citations
from workers.tools.document_roots import DocumentRoots
from workers.tools.documents import DOCUMENT_TAGS, Document, DocumentSource
from workers.tools.summarize import PART_CHARACTERS, Ask, Summarizer
from workers.tools.tool import Tool, ToolContext

TIMEOUT_SECONDS = 600.0
"""A document of the greatest size takes some 200 completions, four at a time."""

MAX_OUTPUT_TOKENS = 1024
"""Of one summary, so that summaries of parts fit together."""


class DocumentSummarizer(Tool):
    """Summarises one document with the worker's model, a long one part by part.

    Its completions are not journaled one by one: after a crash in the middle the call
    runs again from its beginning.
    """

    def __init__(
        self,
        documents: DocumentSource | None = None,
        *,
        part_characters: int = PART_CHARACTERS,
    ) -> None:
        """Make the tool.

        Args:
            documents: Where paths lead; text files below the worker's current
                directory by default.
            part_characters: Text in one prompt; about a quarter of it in tokens.
        """
        super().__init__(
            self.summarize_document,
            effect="pure",
            timeout_seconds=TIMEOUT_SECONDS,
            tags=DOCUMENT_TAGS,
        )
        self._documents = DocumentRoots() if documents is None else documents
        self._part_characters = part_characters

    async def summarize_document(
        self,
        ctx: ToolContext,
        path: Annotated[
            str, Field(description="The document, as the other tools name it.")
        ] = "",
        text: Annotated[
            str,
            Field(description="The text itself, when there is no document."),
        ] = "",
    ) -> str:
        """Summarise a document and cite the places, as [document:line].

        Give either its path or its text.
        """
        if bool(path) == bool(text):
            raise ToolFailed("give either path or text, not both and not none")
        if ctx.llm is None:
            raise ToolFailed("summarize_document needs a model and none is configured")
        document = (
            Document.from_text("text", text)
            if text
            else await asyncio.to_thread(self._documents.get_document, path)
        )
        summarizer = Summarizer(
            document, _ask_with(ctx.llm), part_characters=self._part_characters
        )
        summary = await summarizer.summarize()
        known = {document.name: document}
        cited = check_citations(summary, known.get)
        remark = (
            f"[{document.name}: {len(document.lines)} lines summarised in"
            f" {len(summarizer.parts)} parts; {len(cited.verified)} citations exist,"
            f" {cited.unverified} do not]"
        )
        return f"{summary}\n\n{remark}"


def _ask_with(llm: LLMProvider) -> Ask:
    async def ask(messages: Sequence[Message]) -> str:
        request = CompletionRequest(
            messages=tuple(messages), max_output_tokens=MAX_OUTPUT_TOKENS
        )
        return (await llm.complete(request)).message.content

    return ask
