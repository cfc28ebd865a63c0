"""The text of the scripts: what they are composed of and what they say."""

from __future__ import annotations

from importlib.resources import files

import pytest

from orchestrator.redis_scripts import read_script
from orchestrator.redis_task_scripts import transition_table
from orchestrator.task import TRANSITIONS

NAMES = sorted(
    file.name.removesuffix(".lua")
    for file in files("orchestrator.lua").iterdir()
    if file.name.endswith(".lua")
)


def test_the_lua_table_of_transitions_is_the_one_of_the_task() -> None:
    table = transition_table()
    for status, allowed in TRANSITIONS.items():
        row = ", ".join(f"{to} = true" for to in sorted(allowed))
        assert f"  {status} = {{{row}}},\n" in table


@pytest.mark.parametrize("name", NAMES)
def test_every_script_opens_with_its_effect_keys_and_arguments(name: str) -> None:
    text = read_script(name)
    assert text.startswith("-- ")
    comments = "".join(line for line in text.splitlines() if line.startswith("--"))
    for word in ("KEYS", "ARGV"):
        assert word in comments or word not in text


@pytest.mark.parametrize("name", NAMES)
def test_no_script_reads_json_or_removes_what_it_does_not_know(name: str) -> None:
    text = read_script(name)
    for word in ("cjson.decode", "FLUSH", "'KEYS'", "os.time"):
        assert word not in text
