from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.task import StopReason
from tests.unit.workers.agents.bench import Bench, assert_valid_turn
from workers.agents.summarizer import SummarizerAgent
from workers.errors import AgentFailed, LLMUnavailable
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.reply import Reply
from workers.run import Interrupt

LONG = "\n\n".join(f"## Part {n}\n\n" + f"Fact {n}. " * 80 for n in range(12))


def cite_first_line(request: CompletionRequest) -> str:
    place = re.search(r"(long:\d+)", request.messages[-1].content)
    assert place is not None
    return f"A fact [{place[1]}]."


async def test_short_text_takes_one_completion() -> None:
    bench = Bench(["It is fine [text:1]."])
    result = await bench.execute(SummarizerAgent(), {"text": "All is fine."})
    assert result.content == "It is fine [text:1]."
    assert result.output == {
        "summary": "It is fine [text:1].",
        "parts": [{"line_start": 1, "line_end": 1, "summary": "It is fine [text:1]."}],
        "citations": [
            {
                "document": "text",
                "line_start": 1,
                "line_end": 1,
                "quote": "All is fine.",
            }
        ],
        "unverified_citations": 0,
    }
    assert_valid_turn(result.messages)


CALLS_ALONE = {"tool_calls": [{"name": "search", "arguments": {}}]}


async def test_calls_in_place_of_a_summary_are_asked_about_once_more() -> None:
    bench = Bench([CALLS_ALONE, "It is fine [text:1]."])
    result = await bench.execute(SummarizerAgent(), {"text": "All is fine."})
    assert result.content == "It is fine [text:1]."
    with pytest.raises(AgentFailed, match="gave no summary") as caught:
        await Bench([CALLS_ALONE] * 2).execute(SummarizerAgent(), {"text": "Fine."})
    assert caught.value.code == "no_answer"


async def test_a_part_that_is_asked_for_again_takes_no_other_parts_summary() -> None:
    """Of a later attempt, whose journal answers at once."""
    data = {"document": {"name": "long", "text": LONG}}
    options = {"part_characters": 2_000}
    called: list[str] = []

    def reply(request: CompletionRequest) -> Any:
        prompt = request.messages[-1].content
        if prompt.startswith("Part 2 ") and not called:
            called.append(prompt)
            return CALLS_ALONE
        return cite_first_line(request)

    first = Bench(reply, options=options)
    complete = first.llm.complete

    async def after_the_others_began(request: CompletionRequest) -> Completion:
        await asyncio.sleep(0)
        return await complete(request)

    first.llm.complete = after_the_others_began  # type: ignore[method-assign]
    result = await first.execute(SummarizerAgent(), data)
    later = Bench([], options=options)
    again = await later.execute(SummarizerAgent(), data, steps=first.log.steps)
    assert again.output == result.output
    assert isinstance(result.output, dict)
    assert len(first.llm.requests) == len(result.output["parts"]) + 2  # type: ignore[arg-type]


async def test_each_part_of_a_long_document_is_a_journaled_completion() -> None:
    data = {"document": {"name": "long", "text": LONG}}
    options = {"part_characters": 2_000}

    def failing(request: CompletionRequest) -> Any:
        number = len(first.llm.requests)
        return LLMUnavailable("down") if number == 6 else cite_first_line(request)

    first = Bench(failing, options=options)
    with pytest.raises(LLMUnavailable):
        await first.execute(SummarizerAgent(), data)
    done = len(first.log.steps)
    assert done >= 5

    second = Bench(cite_first_line, options=options)
    result = await second.execute(SummarizerAgent(), data, steps=first.log.steps)
    assert isinstance(result.output, dict)
    parts = result.output["parts"]
    assert isinstance(parts, list)
    assert len(parts) > 5
    assert len(second.llm.requests) + done == len(parts) + 1
    assert result.output["unverified_citations"] == 0


async def test_path_below_the_roots_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("One.\n")
    bench = Bench(["One [a.md:1]."], options={"roots": [str(tmp_path)]})
    result = await bench.execute(SummarizerAgent(), {"document": "a.md"})
    assert result.messages[0].content == "Summarise a.md."


@pytest.mark.parametrize(
    "data",
    [
        {"text": "All is fine."},
        {"query": "All is fine."},
        {"messages": [{"role": "user", "content": "All is fine."}]},
    ],
)
async def test_a_text_from_a_client_that_names_no_field_is_summarised(
    data: Any,
) -> None:
    bench = Bench(["Fine [text:1]."])
    result = await bench.execute(SummarizerAgent(), data)
    assert isinstance(result.output, dict)
    assert result.output["unverified_citations"] == 0
    assert "All is fine." in bench.llm.requests[0].messages[-1].content


async def test_soft_limit_combines_the_parts_that_are_done() -> None:
    waiting = asyncio.Event()

    def reply(request: CompletionRequest) -> str:
        return "Combined." if "Summaries of" in request.messages[-1].content else "ok"

    bench = Bench(reply, options={"part_characters": 2_000})
    complete = bench.llm.complete

    async def hang_on_part_six(request: CompletionRequest) -> Completion:
        if request.messages[-1].content.startswith("Part 6 "):
            waiting.set()
            await asyncio.Event().wait()
        return await complete(request)

    bench.llm.complete = hang_on_part_six  # type: ignore[method-assign]
    data = {"document": {"name": "long", "text": LONG}}
    running = asyncio.create_task(bench.execute(SummarizerAgent(), data))
    bench.run.start(running)
    await asyncio.wait_for(waiting.wait(), 5)
    await bench.log.wait_for_step("completion:5")
    bench.run.interrupt(Interrupt.SOFT_LIMIT)
    result = await asyncio.wait_for(running, 5)
    bench.run.stop()
    assert (result.content, result.partial) == ("Combined.", True)
    assert result.stop_reason is StopReason.SOFT_TIME_LIMIT
    assert isinstance(result.output, dict)
    assert len(result.output["parts"]) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", StopReason.MAX_TOKENS),
        ("content_filter", StopReason.CONTENT_FILTER),
    ],
)
async def test_cut_answer_is_partial(finish: str, reason: StopReason) -> None:
    bench = Bench([Reply(text="It is", finish_reason=finish)])
    result = await bench.execute(SummarizerAgent(), {"text": "All is fine."})
    assert (result.stop_reason, result.partial) == (reason, True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, r"give one of document .* \(got nothing\)"),
        ({"query": "a", "documents": ["b.md"]}, r"\(got query, documents\)"),
        ({"document": "a.md", "text": "b"}, "give one of document"),
        ({"text": " "}, r"input.document.text: must be text"),
        ({"document": "../a.md"}, "outside the allowed roots"),
        ({"document": "."}, "names a directory of 2 documents"),
        ({"document": "empty.md"}, "holds no text"),
    ],
)
async def test_input_that_cannot_be_used_is_named(
    tmp_path: Path, data: Any, text: str
) -> None:
    (tmp_path / "empty.md").write_text("\n\n")
    (tmp_path / "b.md").write_text("b")
    bench = Bench([], options={"roots": [str(tmp_path)]})
    with pytest.raises(AgentFailed, match=text) as caught:
        await bench.execute(SummarizerAgent(), data)
    assert caught.value.code == "invalid_input"


async def test_bad_part_size_is_refused() -> None:
    bench = Bench([], options={"part_characters": 10})
    with pytest.raises(AgentFailed, match=r"options.part_characters: .* from 1000"):
        await bench.execute(SummarizerAgent(), {"text": "a"})
