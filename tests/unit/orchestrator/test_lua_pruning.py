"""Scripts keep what they reach of the shared functions, and nothing else."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from orchestrator.doorbell_message import doorbell_message
from orchestrator.lua_pruning import pruned
from orchestrator.redis_task_scripts import (
    ScriptConstants,
    composed_sources,
)

SHARED = """-- about: unused
local LIMIT = 3
local TABLE = {
  1,
}
local ORPHAN = {
  2,
}

-- calls unused
local function leaf(x)
  return x + LIMIT
end

local function branch(x)
  return leaf(x)
end

local function unused(x)
  return TABLE[x]
end
"""

SOURCES = composed_sources(
    ScriptConstants(
        dispatch_window=64, most_counters=9, doorbell_message=doorbell_message()
    )
)


def test_what_a_script_reaches_stays_with_all_that_it_needs() -> None:
    kept = pruned(SHARED, "return branch(1)")
    assert "function leaf" in kept
    assert "function branch" in kept
    assert "LIMIT = 3" in kept


def test_what_only_a_comment_names_goes() -> None:
    kept = pruned(SHARED, "return branch(1)")
    assert "unused" not in kept
    assert "TABLE" not in kept
    assert "ORPHAN" not in kept


def test_code_between_functions_stays_and_keeps_what_it_names() -> None:
    kept = pruned(SHARED + "unused(LIMIT)\n", "return 1")
    assert kept.endswith("unused(LIMIT)\n")
    assert "TABLE = {" in kept


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_composed_script_defines_each_function_that_it_calls(name: str) -> None:
    text = re.sub(r"--.*", "", SOURCES[name])
    everything = "".join(SOURCES.values())
    known = set(re.findall(r"^local function (\w+)\(", everything, re.MULTILINE))
    defined = set(re.findall(r"local function (\w+)\(", text))
    called = known & set(re.findall(r"(\w+)\(", text))
    assert called <= defined


def test_no_function_and_no_clock_is_written_twice() -> None:
    texts = [
        file.read_text("utf-8")
        for file in files("orchestrator.lua").iterdir()
        if file.name.endswith(".lua")
    ]
    everything = "".join(texts)
    names = re.findall(r"^local function (\w+)\(", everything, re.MULTILINE)
    assert sorted(names) == sorted(set(names))
    assert everything.count("redis.call('TIME')") == 1


def test_a_script_that_needs_little_is_short() -> None:
    assert len(SOURCES["start_step"]) < len(SOURCES["finish"]) / 4
