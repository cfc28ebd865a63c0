from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conversations.message import ToolCall
from orchestrator.journal import StepKind
from orchestrator.task import StopReason
from tests.unit.workers.agents.bench import Bench, assert_valid_turn
from workers.agents.researcher import ResearcherAgent
from workers.errors import AgentFailed, LLMUnavailable

GUIDE = "# Guide\n\nA lost task is found by the sweeper.\nIt rings again.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text(GUIDE)
    (tmp_path / "docs" / "soup.md").write_text("Celery soup needs an hour.\n")
    return tmp_path


def search(query: str = "lost task") -> ToolCall:
    return ToolCall(
        id="c1", name="search_documents", arguments={"query": query, "limit": 1}
    )


def read(path: str) -> ToolCall:
    return ToolCall(id="c2", name="read_document", arguments={"path": path})


def bench_at(root: Path, replies: Any, **config: Any) -> Bench:
    return Bench(replies, options={"roots": [str(root)]}, **config)


async def test_question_is_answered_from_the_documents_with_checked_citations(
    root: Path,
) -> None:
    answer = "The sweeper finds it [docs/guide.md:3], at noon [docs/guide.md:77]."
    bench = bench_at(root, [search(), answer], instructions="Write plainly.")
    result = await bench.execute(
        ResearcherAgent(), {"query": "How is a lost task found?", "documents": ["docs"]}
    )
    assert result.content == answer
    assert result.output == {
        "answer": answer,
        "source": "documents",
        "citations": [
            {
                "document": "docs/guide.md",
                "line_start": 3,
                "line_end": 3,
                "quote": "A lost task is found by the sweeper.",
            }
        ],
        "unverified_citations": 1,
        "documents_read": ["docs/guide.md"],
        "documents_skipped": [],
    }
    system, question = bench.prompt(0)
    assert "cite its place as [document:line]" in system.content
    assert system.content.endswith("Write plainly.")
    assert question.content == "How is a lost task found?"
    assert {spec.name for spec in bench.llm.requests[0].tools} == {
        "search_documents",
        "read_document",
        "list_documents",
        "summarize_document",
    }
    assert "docs/guide.md:3: A lost task is found" in bench.prompt(1)[-1].content
    assert_valid_turn(result.messages)


async def test_tool_calls_of_a_research_are_journaled_and_not_repeated(
    root: Path,
) -> None:
    first = bench_at(root, [search(), LLMUnavailable("down")])
    data = {"query": "How?", "documents": ["docs"]}
    with pytest.raises(LLMUnavailable):
        await first.execute(ResearcherAgent(), data)
    assert [step.kind for step in first.log.steps] == [
        StepKind.COMPLETION,
        StepKind.TOOL_CALL,
    ]
    second = bench_at(root, ["Found [docs/guide.md:3]."])
    result = await second.execute(ResearcherAgent(), data, steps=first.log.steps)
    assert isinstance(result.output, dict)
    assert result.output["documents_read"] == ["docs/guide.md"]
    assert len(second.llm.requests) == 1


async def test_texts_can_be_given_in_the_input() -> None:
    bench = Bench([read("memo"), "Yes [memo:1]."])
    result = await bench.execute(
        ResearcherAgent(),
        {"query": "Is it?", "documents": [{"name": "memo", "text": "It is."}]},
    )
    assert isinstance(result.output, dict)
    assert result.output["documents_read"] == ["memo"]
    assert result.output["unverified_citations"] == 0


async def test_long_documents_can_be_summarised_on_the_way(root: Path) -> None:
    summarize = ToolCall(
        id="c1", name="summarize_document", arguments={"path": "docs/soup.md"}
    )
    bench = bench_at(
        root, [summarize, "Soup takes an hour [docs/soup.md:1].", "An hour."]
    )
    result = await bench.execute(
        ResearcherAgent(), {"query": "How long?", "documents": ["docs"]}
    )
    assert isinstance(result.output, dict)
    assert result.output["documents_read"] == ["docs/soup.md"]


async def test_documents_of_the_configuration_are_the_default(root: Path) -> None:
    bench = Bench(
        [read("docs/soup.md"), "An hour [docs/soup.md:1]."],
        options={"roots": [str(root)], "documents": ["docs/soup.md"]},
    )
    result = await bench.execute(ResearcherAgent(), {"query": "How long?"})
    assert isinstance(result.output, dict)
    assert result.output["documents_read"] == ["docs/soup.md"]


async def test_without_documents_the_model_answers_alone_and_the_output_says_so() -> (
    None
):
    bench = Bench(["From memory: yes."])
    result = await bench.execute(ResearcherAgent(), {"query": "test query"})
    assert result.output == {
        "answer": "From memory: yes.",
        "source": "model",
        "citations": [],
        "unverified_citations": 0,
        "documents_read": [],
        "documents_skipped": [],
    }
    assert bench.llm.requests[0].tools == ()
    assert "No documents were given" in bench.prompt(0)[0].content


async def test_calls_of_the_clients_tools_are_its_output(root: Path) -> None:
    call = ToolCall(id="c1", name="theirs", arguments={"of": "lost"})
    bench = bench_at(root, [call])
    result = await bench.execute(
        ResearcherAgent(),
        {"query": "How is a lost task found?", "documents": ["docs"]},
        parameters={"tools": [{"name": "theirs"}]},
    )
    assert result.stop_reason is StopReason.CLIENT_TOOL_CALLS
    assert result.output == {"tool_calls": [call.model_dump()]}


async def test_roots_default_to_the_current_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    bench = Bench([search(), "Found [docs/guide.md:3]."])
    result = await bench.execute(
        ResearcherAgent(), {"query": "How?", "documents": ["docs/guide.md"]}
    )
    assert isinstance(result.output, dict)
    assert result.output["unverified_citations"] == 0


async def test_model_cannot_read_beyond_the_documents_of_the_run(root: Path) -> None:
    (root / "private.md").write_text("secret")
    bench = bench_at(
        root,
        [[read("private.md"), read("../x").model_copy(update={"id": "c3"})], "No."],
    )
    result = await bench.execute(
        ResearcherAgent(), {"query": "What?", "documents": ["docs"]}
    )
    assert "secret" not in "".join(message.content for message in result.messages)
    assert "there is no document 'private.md'" in result.messages[2].content


async def test_turn_limit_gives_a_partial_answer_with_citations(root: Path) -> None:
    bench = bench_at(root, [search(), "So far [docs/guide.md:4]."], max_turns=1)
    result = await bench.execute(
        ResearcherAgent(), {"query": "How?", "documents": ["docs"]}
    )
    assert (result.stop_reason, result.partial) == (StopReason.MAX_TURNS, True)
    assert isinstance(result.output, dict)
    assert result.output["unverified_citations"] == 0


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "input.query: is required"),
        ({"query": "  "}, "input.query: is required"),
        ({"query": 7}, "input.query: is required"),
        ({"query": "q", "documents": "docs"}, "input.documents: must be a list"),
        ({"query": "q", "documents": [1]}, r"input.documents\[0\]: must be a path"),
        ({"query": "q", "documents": ["docs", " "]}, r"documents\[1\]: .*blank text"),
        ({"query": "q", "documents": ["no.md"]}, r"documents\[0\]: .*does not exist"),
        (
            {"query": "q", "documents": ["/etc/passwd"]},
            r"documents\[0\]: '/etc/passwd' is outside the allowed roots",
        ),
        (
            {"query": "q", "documents": [{"name": "a", "text": ""}]},
            r"documents\[0\].text: must be text",
        ),
        (
            {"query": "q", "documents": [{"name": "a]b", "text": "x"}]},
            r"documents\[0\].name: must be one line",
        ),
        (
            {
                "query": "q",
                "documents": [{"name": "a", "text": "x"}, {"name": "a", "text": "y"}],
            },
            r"documents\[1\]: another document is named 'a'",
        ),
    ],
)
async def test_input_that_cannot_be_used_is_named(
    root: Path, data: Any, text: str
) -> None:
    bench = bench_at(root, [])
    with pytest.raises(AgentFailed, match=text) as caught:
        await bench.execute(ResearcherAgent(), data)
    assert caught.value.code == "invalid_input"
    assert bench.llm.requests == []


async def test_bad_options_are_named() -> None:
    for options, text in (
        ({"roots": "docs"}, "options.roots: must be a list"),
        ({"documents": ["/etc/passwd"]}, r"options.documents\[0\]: "),
    ):
        with pytest.raises(AgentFailed, match=text) as caught:
            await Bench([], options=options).execute(ResearcherAgent(), {"query": "q"})
        assert caught.value.code == "invalid_options"
