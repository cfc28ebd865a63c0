"""The documents agree with the code they describe."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from orchestrator.task import TRANSITIONS, TaskStatus

ROOT = Path(__file__).parents[2]
LIFECYCLE = (ROOT / "docs/task-lifecycle.md").read_text()
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
ALLOWED = {(source, to) for source, targets in TRANSITIONS.items() for to in targets}


def test_the_state_diagram_is_the_table_of_transitions() -> None:
    arrows = re.findall(r"^ +(\w+) --> (\w+): \S", LIFECYCLE, re.MULTILINE)
    assert sorted(arrows) == sorted(ALLOWED)


def test_the_state_diagram_begins_with_pending_and_ends_with_every_terminal_state() -> (
    None
):
    assert re.findall(r"\[\*\] --> (\w+)", LIFECYCLE) == [TaskStatus.PENDING]
    ends = re.findall(r"(\w+) --> \[\*\]", LIFECYCLE)
    assert sorted(ends) == sorted(s for s in TaskStatus if s.is_terminal)


def test_every_transition_names_who_makes_it() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| \w", LIFECYCLE, re.MULTILINE)
    assert set(rows) == ALLOWED


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    rooms = r"(?:conversations|orchestrator|workers|tests|docs|examples)"
    named = re.findall(rf"`({rooms}/[\w./-]+)`", document.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"`make (?:\w+=\S* )*(\w+)", document.read_text())
    assert set(named) <= set(targets)


def test_the_architecture_page_describes_every_room() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = contracts["tool"]["importlinter"]["root_packages"]
    assert all(f"| `{room}` |" in page for room in rooms)


def test_every_decision_is_in_the_list() -> None:
    decisions = ROOT / "docs/decisions"
    listed = (decisions / "README.md").read_text()
    pages = [page.name for page in decisions.glob("0*.md")]
    assert all(f"({page})" in listed for page in pages)
