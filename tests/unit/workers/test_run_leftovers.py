"""A run that has ended leaves nothing that Python's collector would have to find.

A thousand runs at once would hold their whole histories until it came by.
"""

from __future__ import annotations

import gc

import pytest

from workers.agent_bench import DoubleBench
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.tools.tool import tool


@tool(effect="pure")
async def look_up(place: str) -> str:
    """Look a place up."""
    return f"{place} is a town"


@tool(effect="once")
async def book(place: str) -> str:
    """Book a trip."""
    return f"{place} is booked"


def runs_in_memory() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in RUN_PARTS]


RUN_PARTS = (Run, JournaledRunContext)


@pytest.fixture
def bench():
    bench = DoubleBench()
    yield bench
    bench.close()


@pytest.mark.parametrize("called", ["look_up", "book"])
def test_an_ended_run_is_freed_without_a_collection(bench, called):
    gc.collect()
    before = len(runs_in_memory())
    gc.disable()
    try:
        bench.reply(
            {"tool_calls": [{"name": called, "arguments": {"place": "Ulm"}}]},
            {"text": "done"},
        )
        result = bench.run_agent("llm", "Where to?", tools=(look_up, book))
        left = len(runs_in_memory())
    finally:
        gc.enable()

    assert result.stats.tool_calls == 1
    assert left == before
