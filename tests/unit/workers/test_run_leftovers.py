"""A run that has ended leaves nothing that Python's collector would have to find.

A thousand runs at once would hold their whole histories until it came by.
"""

from __future__ import annotations

import gc

import pytest

from orchestrator.agent_config import AgentConfig
from orchestrator.task import Task
from workers.agent_bench import DoubleBench
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.llm.scripted import ScriptedLLMProvider
from workers.run import Run
from workers.run_context import JournaledRunContext
from workers.tools.registry import ToolRegistry
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


class Untidy:
    """Changes what it was given."""

    async def run(self, ctx: RunContext, given: AgentInput) -> AgentResult:
        config = ctx.config
        parts = (given.data, given.context, given.parameters)
        for part in (*parts, config.parameters, config.options):
            part["seen"].append("me")
        return AgentResult(content=f"{parts} {config.parameters} {config.options}")


async def test_what_a_run_does_to_its_input_no_later_run_sees():
    manager = LocalAgentManager(ScriptedLLMProvider(), ToolRegistry())
    config = AgentConfig(name="untidy", parameters={"seen": []}, options={"seen": []})
    manager.register_agent(config, Untidy())
    task = Task(agent_name="untidy", input={"seen": []}, context={"seen": []})
    answers = [(await manager.execute_task(task)).content for _ in range(2)]
    assert [answer.count("me") for answer in answers] == [5, 5]
    assert (task.input, task.context) == ({"seen": []}, {"seen": []})
