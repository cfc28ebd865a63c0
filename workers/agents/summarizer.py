"""An agent that summarises one document of any length and cites its places."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from conversations.json_value import JsonObject
from conversations.message import Message, Role
from conversations.shown_path import shown_path
from orchestrator.prompt import MESSAGES_FIELD, PROMPT_FIELDS, question_of
from orchestrator.task import StopReason
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.agents.document_input import invalid, read_document, read_roots
from workers.agents.llm_agent import CUT_SHORT
from workers.agents.sampling import Sampling
from workers.errors import AgentFailed, SoftTimeLimitReached, ToolFailed
from workers.tools.citations import check_citations
from workers.tools.documents import Document
from workers.tools.summarize import MIN_PART_CHARACTERS, PART_CHARACTERS, Summarizer

_SOURCES: Final = ("document", *PROMPT_FIELDS, MESSAGES_FIELD)
"""What may hold the text: clients of OpenAI's API and `submit` name no field."""
_LONGEST_SHOWN: Final = 200
"""Of the names in an input that cannot be taken."""


class SummarizerAgent:
    """Answers `{"document": path or {"name", "text"}}` or `{"text": …}`.

    What another field that asks holds alone, such as `query`, is a text too.

    Each part is a journaled completion: a run that is resumed goes on with the next.
    `options.part_characters` of its configuration sets how much text one prompt holds.
    """

    option_names = ("roots", "part_characters")

    @staticmethod
    def check_options(options: JsonObject) -> None:
        """Refuse what no run could be made with.

        Raises:
            AgentFailed: names the option.
        """
        read_roots(options)
        _part_characters(options)

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        document = await asyncio.to_thread(_document, ctx, agent_input)
        model = _JournaledModel(ctx, Sampling.of(ctx.config, agent_input.parameters))
        try:
            summarizer = Summarizer(
                document,
                model.ask,
                part_characters=_part_characters(ctx.config.options),
            )
        except ToolFailed as exc:
            raise invalid("input.document", str(exc)) from exc
        try:
            summary, reason = await _summarised(summarizer)
        except ToolFailed as exc:
            raise AgentFailed(
                "the model gave no summary, though asked once more; use another model",
                code="no_answer",
            ) from exc
        if reason is StopReason.END_TURN:
            reason = model.cut or reason
        return AgentResult(
            content=summary,
            output=_output(summary, document, summarizer),
            stop_reason=reason,
            partial=reason is not StopReason.END_TURN,
            messages=(
                Message(role=Role.USER, content=f"Summarise {document.name}."),
                Message(role=Role.ASSISTANT, content=summary),
            ),
        )


async def _summarised(summarizer: Summarizer) -> tuple[str, StopReason]:
    try:
        return await summarizer.summarize(), StopReason.END_TURN
    except SoftTimeLimitReached:
        return await summarizer.combine(), StopReason.SOFT_TIME_LIMIT


class _JournaledModel:
    """The run's model as an `Ask`; notes what cut an answer short."""

    def __init__(self, ctx: RunContext, sampling: Sampling) -> None:
        self.cut: StopReason | None = None
        self._ctx = ctx
        self._sampling = sampling

    async def ask(self, messages: Sequence[Message]) -> str:
        completion = await self._ctx.complete(self._sampling.request(messages))
        text = completion.message.content
        if text.strip():
            self.cut = self.cut or CUT_SHORT.get(completion.finish_reason)
        return text


def _document(ctx: RunContext, agent_input: AgentInput) -> Document:
    data = agent_input.data
    given = [name for name in _SOURCES if data.get(name) is not None]
    if len(given) != 1 or data.get("documents") is not None:
        got = ", ".join(shown_path(name) for name in data) or "nothing"
        reason = (
            "give one of document (a path, or name and text) and text, such as"
            f' {{"document": "README.md"}} (got {got[:_LONGEST_SHOWN]})'
        )
        raise invalid("input.document", reason)
    source = data[given[0]]
    if given[0] == MESSAGES_FIELD:
        source = question_of(data).content
    if given[0] != "document":
        source = {"name": "text", "text": source}
    return read_document(
        source, field="input.document", roots=read_roots(ctx.config.options)
    )


def _part_characters(options: JsonObject) -> int:
    value = options.get("part_characters", PART_CHARACTERS)
    if isinstance(value, int) and value >= MIN_PART_CHARACTERS:
        return value
    raise invalid(
        "options.part_characters",
        f"must be a whole number from {MIN_PART_CHARACTERS}"
        f" (got {type(value).__name__})",
    )


def _output(summary: str, document: Document, summarizer: Summarizer) -> JsonObject:
    cited = check_citations(summary, {document.name: document}.get)
    return {
        "summary": summary,
        "parts": [
            {"line_start": part.start, "line_end": part.end, "summary": part.text}
            for part in summarizer.summaries
        ],
        "citations": [citation.as_json() for citation in cited.verified],
        "unverified_citations": cited.unverified,
    }
