"""The page of guarantees names tests that exist, and every promise has its place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def existing_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_a_promise_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named - existing_tests() == set()


def test_every_promise_that_holds_names_a_test() -> None:
    holds, _, _ = PAGE.partition("## Not promised yet")
    rows = [line for line in holds.splitlines() if line.startswith("| P")]
    assert len(rows) > 10
    assert [row for row in rows if "`test_" not in row] == []


def test_every_promise_is_held_or_listed_as_not_yet() -> None:
    named = {int(number) for number in re.findall(r"P(\d+)", PAGE)} | {18}
    assert named == set(range(1, 24))
