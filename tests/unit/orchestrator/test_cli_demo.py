from __future__ import annotations

from pathlib import Path

import click
import pytest

from orchestrator.cli.demo import _announce_endpoint
from orchestrator.cli.demo_documents import NamedText, pick_sections, read_documents
from orchestrator.cli.demo_report import print_answer, print_summaries, print_totals
from orchestrator.cli.demo_stack import demo_settings, require_agents
from orchestrator.cli.endpoint_report import EndpointReport
from orchestrator.embedded import RedisServer
from orchestrator.errors import InvalidSettings
from orchestrator.task import Task, TaskFailure, TaskResult, TaskStatus


def completed(content: str) -> Task:
    citation = {"document": "a.md", "line_start": 3, "quote": "It is found."}
    return Task(
        agent_name="researcher",
        status=TaskStatus.COMPLETED,
        result=TaskResult(
            task_id="task-1",
            status=TaskStatus.COMPLETED,
            content=content,
            output={"citations": [citation]},
        ),
    )


FAILED = Task(
    agent_name="summarizer",
    status=TaskStatus.FAILED,
    failure=TaskFailure(code="llm_unavailable", message="nobody answers"),
)


def test_documents_are_found_in_files_and_folders() -> None:
    Path("docs/deep").mkdir(parents=True)
    Path("README.md").write_text("# Read me")
    Path("docs/b.md").write_text("b")
    Path("docs/deep/[a].md").write_text("a")
    Path("docs/picture.png").write_bytes(b"\x00")
    Path("docs/empty.md").write_text(" \n")
    found = read_documents([Path("README.md"), Path("docs"), Path("none")])
    assert [document.name for document in found] == [
        "README.md",
        "docs/b.md",
        "docs/deep/(a).md",
    ]


def test_documents_that_would_not_fit_into_a_task_are_left_out() -> None:
    Path("a.md").write_text("a" * 300_000)
    Path("b.md").write_text("b" * 300_000)
    assert len(read_documents([Path("a.md"), Path("b.md")])) == 1


def test_no_documents_at_all_is_told_with_the_remedy() -> None:
    with pytest.raises(click.UsageError, match="--documents PATH"):
        read_documents([Path("docs")])


def test_the_longest_sections_are_picked_in_order() -> None:
    text = "intro\n" + "".join(
        f"## Part {n}\n{'word ' * (50 + n)}\n" for n in (1, 9, 2, 8)
    )
    picked = pick_sections([NamedText("a.md", text + "## Short\nx\n")], count=2)
    assert [section.name for section in picked] == ["a.md § Part 9", "a.md § Part 8"]
    assert picked[0].text.startswith("## Part 9")


def test_sections_of_tables_and_code_are_not_picked() -> None:
    table = "## Table\n" + "| a | b |\n" * 90
    code = "## Code\n```\n" + "word " * 200 + "\n```\n"
    prose = "## Prose\n" + "word " * 50
    picked = pick_sections([NamedText("a.md", table + code + prose)], count=1)
    assert [section.name for section in picked] == ["a.md § Prose"]


def test_a_document_without_headings_is_one_section() -> None:
    document = NamedText("a.txt", "plain")
    assert pick_sections([document], count=5) == [document]


def test_scripted_text_never_passes_for_a_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _announce_endpoint(EndpointReport(base_url="http://x/v1", remedy="start it"))
    assert "start it" in (shown := capsys.readouterr().out)
    assert "NO MODEL IS CALLED" in shown
    _announce_endpoint(EndpointReport(usable=True, is_double=True))
    assert "NO MODEL IS CALLED" in capsys.readouterr().out
    print_answer(completed("Found."), [], scripted=True)
    assert "no model answered" in (shown := capsys.readouterr().out)
    assert "a.md:3  It is found." in shown
    print_summaries([completed("Short.")], ["a.md"], scripted=True)
    assert "no model answered" in capsys.readouterr().out
    print_totals([completed("Short.")], scripted=True, seconds=1.0)
    assert "counted by the scripted endpoint" in capsys.readouterr().out


def test_a_models_text_is_not_called_scripted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _announce_endpoint(EndpointReport(base_url="http://x/v1", model="m", usable=True))
    print_answer(completed("Found."), [], scripted=False)
    print_summaries([completed("Short.")], ["a.md"], scripted=False)
    print_totals([completed("Short.")], scripted=False, seconds=1.0)
    shown = capsys.readouterr().out
    assert "it answers and is used" in shown
    assert "scripted" not in shown.lower()
    assert "no model" not in shown.lower()


def test_a_task_without_an_answer_is_shown_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_answer(FAILED, [], scripted=False)
    print_summaries([FAILED], ["a.md"], scripted=False)
    shown = capsys.readouterr().out
    assert "none: failed, llm_unavailable: nobody answers" in shown
    assert "Summaries: 0 of 1" in shown


def test_the_demos_own_redis_is_also_its_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://production//")
    private = RedisServer("unix:///a/b", "redis-server", "7")
    assert demo_settings(private).storage.kombu_url == "redis+socket:///a/b"


def test_settings_without_the_demos_agents_are_refused() -> None:
    Path("celeriac.yaml").write_text("agents: {mine: {}}")
    settings = demo_settings(RedisServer("unix:///a/b", "redis-server", "7"))
    require_agents(settings, ["mine"])
    with pytest.raises(InvalidSettings, match=r"agents\.researcher: the demo needs it"):
        require_agents(settings, ["researcher"])


@pytest.mark.parametrize("columns", [60, 100])
def test_summaries_fit_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    print_summaries(
        [completed("word " * 100)], ["a long name of a document " * 4], scripted=False
    )
    row = capsys.readouterr().out.splitlines()[-1]
    assert columns - 2 <= len(row) <= columns
