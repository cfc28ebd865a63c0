from __future__ import annotations

import re

import pytest

from conversations.message import ToolCall
from orchestrator.task import Task
from workers.errors import ToolFailed
from workers.tools.citations import Citation, check_citations
from workers.tools.documents import Document, DocumentLibrary
from workers.tools.passages import split_passages
from workers.tools.registry import ToolRegistry
from workers.tools.tool import ToolContext

GUIDE = """# Guide

Celeriac runs agents.

## Recovery

A lost task is found by the sweeper.
It rings again.

## Cooking

Celery soup needs an hour.
"""
NOTES = "The pool holds runs.\n\nNobody waits for soup.\n"
LINE = re.compile(r"^(?P<name>[^\[].*?):(?P<line>\d+): (?P<text>.*)$", re.M)

LIBRARY = DocumentLibrary(
    [
        Document.from_text("docs/guide.md", GUIDE),
        Document.from_text("notes.txt", NOTES),
    ],
    skipped=["docs/huge.log"],
)


def test_lines_are_counted_as_editors_count_them() -> None:
    assert Document.from_text("a", "x\r\ny\rz\u2028w\n").lines == ("x", "y", "z\u2028w")
    assert Document.from_text("a", "").lines == ()


def test_search_finds_the_best_passage_first_with_its_section_and_places() -> None:
    found = LIBRARY.search_documents("How is a lost task found?", limit=1)
    assert found == (
        '[docs/guide.md: lines 5-8, section "Recovery"]\n'
        "docs/guide.md:5: ## Recovery\n"
        "docs/guide.md:7: A lost task is found by the sweeper.\n"
        "docs/guide.md:8: It rings again."
    )


def test_words_of_the_section_count_and_plurals_do_not_matter() -> None:
    assert "Celery soup" in LIBRARY.search_documents("cooking", limit=1)
    assert "A lost task" in LIBRARY.search_documents("sweepers", limit=1)


def test_search_without_a_hit_says_what_to_do() -> None:
    assert LIBRARY.search_documents("zebra").startswith("[no passage holds")


def test_every_line_of_a_result_is_text_with_its_place_a_remark_or_empty() -> None:
    result = LIBRARY.search_documents("soup runs task") + "\n"
    result += LIBRARY.read_document("docs/guide.md")
    for line in result.splitlines():
        match = LINE.match(line)
        if match:
            document = LIBRARY.get_document(match["name"])
            assert document.lines[int(match["line"]) - 1] == match["text"]
        else:
            assert line == "" or (line.startswith("[") and line.endswith("]"))


def test_read_gives_lines_and_says_where_to_go_on() -> None:
    assert LIBRARY.read_document("docs/guide.md", 3, 5) == (
        "docs/guide.md:3: Celeriac runs agents.\n"
        "docs/guide.md:5: ## Recovery\n"
        "docs/guide.md:7: A lost task is found by the sweeper.\n"
        "[docs/guide.md: lines 3-7 of 12; read on with start_line=8]"
    )


def test_long_lines_and_long_reads_are_cut() -> None:
    library = DocumentLibrary([Document.from_text("a.md", ("x" * 9_000 + "\n") * 50)])
    result = library.read_document("a.md", 1, 50)
    assert len(result) < 30_000
    assert "… [9000 characters]" in result
    assert "read on with start_line=6]" in result


def test_documents_are_found_by_the_end_of_their_path() -> None:
    assert LIBRARY.get_document("guide.md").name == "docs/guide.md"
    assert LIBRARY.get_document("./notes.txt").name == "notes.txt"
    with pytest.raises(
        ToolFailed, match=r"the documents are: docs/guide.md, notes.txt"
    ):
        LIBRARY.get_document("other.md")


def test_read_beyond_the_end_is_told() -> None:
    with pytest.raises(ToolFailed, match=r"notes.txt has 3 lines; start_line 9"):
        LIBRARY.read_document("notes.txt", 9)


def test_list_names_all_documents_and_what_was_skipped() -> None:
    assert LIBRARY.list_documents() == (
        "[docs/guide.md: 12 lines, 'Guide']\n"
        "[notes.txt: 3 lines, 'The pool holds runs.']\n"
        "[docs/huge.log: not read, too large or not text]"
    )


async def test_tools_are_harmless_to_repeat_and_check_their_arguments() -> None:
    registry = ToolRegistry(LIBRARY.tools())
    assert registry.names == ("search_documents", "read_document", "list_documents")
    assert {registry.get_tool(name).effect for name in registry.names} == {"pure"}
    ctx = ToolContext(task=Task(agent_name="a"), agent_name="a", idempotency_key="k")
    too_many = ToolCall(
        id="1", name="search_documents", arguments={"query": "a", "limit": 99}
    )
    result = await registry.call(too_many, ctx, allowed=registry.names)
    assert result.error == "invalid_tool_arguments"


def test_two_documents_of_one_name_are_refused() -> None:
    with pytest.raises(ToolFailed, match="two documents are named 'a'"):
        DocumentLibrary([Document.from_text("a", "1"), Document.from_text("a", "2")])


def test_passages_know_underlined_headings_fences_and_code() -> None:
    rst = "Title\n=====\n\nText.\n\n::\n\n"
    sections = {passage.section for passage in split_passages("a.rst", rst.split("\n"))}
    assert sections == {"Title"}
    fenced = "# Real\n\n```\n# comment\n```\n"
    assert [p.section for p in split_passages("a.md", fenced.split("\n"))] == ["Real"]
    code = "# comment\nx = 1\n"
    assert [p.section for p in split_passages("a.py", code.split("\n"))] == [""]


def test_long_paragraphs_are_divided_between_lines() -> None:
    lines = ["word " * 20] * 100
    passages = list(split_passages("a.md", lines))
    assert len(passages) > 5
    covered = [n for p in passages for n in range(p.start, p.end + 1)]
    assert covered == list(range(1, 101))


def test_citations_that_exist_are_quoted_once_and_others_counted() -> None:
    text = (
        "Found [docs/guide.md:7] again [guide.md:7], 【notes.txt:1-3】, both"
        " [docs/guide.md:3; notes.txt:L1]. Invented [docs/guide.md:99] [x.md:1]"
        " [notes.txt:2] [notes.txt:3-1] [x.md:1]. A [link](http://a:80) is none."
    )
    checked = check_citations(text, LIBRARY.find_document)
    assert checked.verified == (
        Citation("docs/guide.md", 7, 7, "A lost task is found by the sweeper."),
        Citation("notes.txt", 1, 3, "The pool holds runs. Nobody waits for soup."),
        Citation("docs/guide.md", 3, 3, "Celeriac runs agents."),
        Citation("notes.txt", 1, 1, "The pool holds runs."),
    )
    assert checked.unverified == 4
