from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from conversations.message import Message, ToolCall
from orchestrator.task import Task
from workers.errors import LLMUnavailable
from workers.llm.provider import CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.document_roots import DocumentRoots
from workers.tools.document_summarizer import DocumentSummarizer
from workers.tools.documents import Document
from workers.tools.registry import ToolRegistry
from workers.tools.summarize import Summarizer, split_parts
from workers.tools.tool import ToolContext, ToolResult

SECTIONS = "\n\n".join(
    f"## Section {number}\n\n" + f"Fact {number} is true. " * 20 for number in range(40)
)
LONG = Document.from_text("long.md", SECTIONS)


def first_place(request: CompletionRequest) -> str:
    """Summarise as a model would that cites the first line it sees."""
    prompt = request.messages[-1].content
    place = re.search(r"([^\s\[]+:\d+)(?::|\])", prompt)
    assert place is not None
    return f"Something is true [{place[1]}]."


async def summarize(
    tool: DocumentSummarizer, llm: ScriptedLLMProvider | None, **arguments: str
) -> ToolResult:
    ctx = ToolContext(
        task=Task(agent_name="a"), agent_name="a", idempotency_key="k", llm=llm
    )
    call = ToolCall.model_validate(
        {"id": "1", "name": "summarize_document", "arguments": arguments}
    )
    return await ToolRegistry([tool]).call(call, ctx, allowed=[tool.name])


def test_parts_cover_every_line_within_the_limit_and_end_between_sections() -> None:
    parts = split_parts(LONG, 3_000)
    assert len(parts) > 5
    assert all(len(part.text) <= 3_000 for part in parts)
    assert all(LONG.lines[part.start - 1].startswith("## ") for part in parts)
    shown = "\n".join(part.text for part in parts)
    assert all(
        f"long.md:{number}: {line.rstrip()}" in shown
        for number, line in enumerate(LONG.lines, 1)
        if line
    )


def test_line_longer_than_a_part_is_divided_without_loss() -> None:
    document = Document.from_text(
        "a.md", "".join(chr(97 + n % 26) for n in range(9999))
    )
    parts = split_parts(document, 1_000)
    assert all(len(part.text) <= 1_000 for part in parts)
    assert (
        "".join(part.text.removeprefix("a.md:1: ") for part in parts)
        == (document.lines[0])
    )


def test_a_part_that_is_half_full_ends_with_its_section() -> None:
    text = f"# One\n\n{'first words ' * 45}\n\n# Two\n\n{'second words ' * 15}\n"
    ends = [part.end for part in split_parts(Document.from_text("a.md", text), 1_000)]
    assert ends == [3, 7]
    short = text.replace("first words " * 45, "first words")
    (whole,) = split_parts(Document.from_text("a.md", short), 1_000)
    assert (whole.start, whole.end) == (1, 7)


async def test_short_document_takes_one_completion(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Title\n\nOne fact.\n")
    llm = ScriptedLLMProvider(replies=["One fact [a.md:3]."])
    tool = DocumentSummarizer(DocumentRoots([tmp_path]))
    result = await summarize(tool, llm, path="a.md")
    assert result.error is None
    assert result.content == (
        "One fact [a.md:3].\n\n[a.md: 3 lines summarised in 1 parts;"
        " 1 citations exist, 0 do not]"
    )
    (request,) = llm.requests
    assert "a.md:3: One fact." in request.messages[-1].content


async def test_long_document_is_summarised_in_parts_and_combined(
    tmp_path: Path,
) -> None:
    (tmp_path / "long.md").write_text(SECTIONS)
    llm = ScriptedLLMProvider(replies=first_place)
    tool = DocumentSummarizer(DocumentRoots([tmp_path]), part_characters=3_000)
    result = await summarize(tool, llm, path="long.md")
    parts = len(split_parts(LONG, 3_000))
    prompts = [request.messages[-1].content for request in llm.requests]
    assert [p.startswith("Part ") for p in prompts] == [True] * parts + [False]
    assert all(len(prompt) < 3_500 for prompt in prompts)
    assert "1 citations exist, 0 do not]" in result.content


async def test_verbose_model_still_ends_with_one_summary_within_the_budget() -> None:
    prompts: list[str] = []

    async def ask(messages: Sequence[Message]) -> str:
        prompts.append(messages[-1].content)
        return "blah " * 5_000

    summarizer = Summarizer(LONG, ask, part_characters=1_000)
    assert (await summarizer.summarize()).startswith("blah")
    assert max(map(len, prompts)) < 1_500


async def test_failed_part_ends_the_others() -> None:
    ended: list[str] = []

    async def ask(messages: Sequence[Message]) -> str:
        if messages[-1].content.startswith("Part 2 "):
            raise LLMUnavailable("down")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(messages[-1].content[:6])
        return ""

    with pytest.raises(LLMUnavailable):
        await Summarizer(LONG, ask, part_characters=1_000).summarize()
    assert ended == ["Part 1", "Part 3", "Part 4"]


async def test_text_can_be_given_instead_of_a_path() -> None:
    llm = ScriptedLLMProvider(replies=["Fine [text:1]."])
    result = await summarize(DocumentSummarizer(), llm, text="It is fine.")
    assert "1 citations exist" in result.content


async def test_misuse_and_faults_are_told_to_the_model(tmp_path: Path) -> None:
    tool = DocumentSummarizer(DocumentRoots([tmp_path]))
    empty = ScriptedLLMProvider(replies=[])
    for arguments, llm, why in (
        ({}, empty, "give either path or text"),
        ({"path": "a", "text": "b"}, empty, "give either path or text"),
        ({"path": "../a.md"}, empty, "outside the allowed roots"),
        ({"text": " "}, empty, "holds no text"),
        ({"text": "x"}, None, "needs a model"),
        ({"text": "x"}, empty, "RequestRejected"),
    ):
        result = await summarize(tool, llm, **arguments)
        assert result.error == "tool_failed"
        assert why in result.content
