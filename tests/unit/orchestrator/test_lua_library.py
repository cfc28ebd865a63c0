"""A library defines once what hangs on no call, and runs the rest at each."""

from __future__ import annotations

import re

import pytest

from orchestrator.doorbell_message import doorbell_message
from orchestrator.lua_library import Script, library
from orchestrator.redis_task_scripts import ScriptConstants, composed_library

SHARED = """-- the key
local LIMITS = {1, 2}
local RECORD = KEYS[1]
local LOG = RECORD .. ':log'

local function read()
  return redis.call('GET', LOG)
end
"""
SCRIPT = """local place = 0
local function take()
  place = place + 1
  return ARGV[place]
end
local value = take()
local both = value == 'x'
  and read()
return both
"""


def halves(code: str) -> tuple[str, str]:
    """What is run when the library is loaded, and what at a call of the script."""
    defined, _, called = code.partition("redis.register_function")
    return defined, called


def test_what_hangs_on_no_call_is_defined_once() -> None:
    defined, called = halves(library(SHARED, {"s": Script(SCRIPT)}).code)
    for line in ("local LIMITS = {1, 2}", "local function read()", "function take()"):
        assert line in defined
        assert line not in called


def test_what_hangs_on_a_call_is_run_at_each_in_its_order() -> None:
    defined, called = halves(library(SHARED, {"s": Script(SCRIPT)}).code)
    begin = defined.partition("local function begin(keys, argv)\n")[2]
    assert begin.startswith(
        "KEYS, ARGV = keys, argv\nRECORD = KEYS[1]\nLOG = RECORD .. ':log'\nend"
    )
    assert "begin(keys, argv)\nplace = 0\nvalue = take()\nlocal both" in called


def test_a_line_that_goes_on_stays_with_what_follows() -> None:
    code = library(SHARED, {"s": Script(SCRIPT)}).code
    assert "local both = value == 'x'\n  and read()\nreturn both\nend)" in code


def test_functions_before_a_script_are_defined_with_it() -> None:
    helped = Script("return help()", "local function help(KEYS)\nend\n")
    defined, called = halves(library(SHARED, {"s": helped}).code)
    assert "local function help(KEYS)" in defined
    assert "begin(keys, argv)\nreturn help()" in called


def test_a_function_that_few_scripts_reach_is_defined_with_each_of_them() -> None:
    few = {name: Script("return read()") for name in "ab"}
    many = {name: Script("return read()") for name in "abcdef"}
    assert library(SHARED, few).code.count("local function read()") == 2
    code = library(SHARED, many).code
    assert code.count("local function read()") == 1
    assert "local function read()" not in library(SHARED, {"a": Script("")}).code


def test_the_task_scripts_leave_room_for_more_names() -> None:
    """Lua takes 200 at once; a library that has more is not loaded by any Redis."""
    terms = ScriptConstants(
        dispatch_window=64, most_counters=9, doorbell_message=doorbell_message()
    )
    shared, *blocks = re.split(r"^do$", composed_library(terms).code, flags=re.M)
    most = max(names(block.partition("redis.register")[0]) for block in blocks)
    assert names(shared) + most <= 190


def names(code: str) -> int:
    found = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", code, flags=re.M)
    return sum(len(each.split(",")) for each in found)


def test_between_shared_functions_stand_only_locals() -> None:
    with pytest.raises(ValueError, match=r"redis\.call\('PING'\)"):
        library(SHARED + "redis.call('PING')\n", {})


def test_another_text_is_another_library() -> None:
    one = library(SHARED, {"s": Script(SCRIPT)})
    other = library(SHARED, {"s": Script(SCRIPT + " ")})
    assert one == library(SHARED, {"s": Script(SCRIPT)})
    assert one.functions.keys() == other.functions.keys() == {"s"}
    assert one.functions["s"] != other.functions["s"]


def test_the_task_scripts_run_little_before_their_own_lines() -> None:
    terms = ScriptConstants(
        dispatch_window=64, most_counters=9, doorbell_message=doorbell_message()
    )
    code = composed_library(terms).code
    begin = code.partition("local function begin(")[2].partition("\nend")[0]
    assert "function" not in begin
    assert len(begin.splitlines()) < 30
