"""A project's own agents and tools on a stock worker."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import AsyncOrchestrator
from tests.stand import Stand
from workers.llm.double import Double

pytestmark = pytest.mark.timeout(90)

MODULE = '''
from orchestrator import AgentConfig
from workers import extend, tool


@tool(effect="pure")
def find_order(number: str) -> str:
    """Look an order up."""
    return f"order {number} is on its way"


class Echo:
    async def run(self, ctx, agent_input):
        from workers.agents.agent import AgentResult
        return AgentResult(content=agent_input.prompt().upper())


@extend
def desk(manager, tools):
    tools.register(find_order)
    manager.register_agent(AgentConfig(name="desk", tools=("find_order",)))
    manager.register_agent(AgentConfig(name="echo"), Echo())
'''

CALL = {"tool_calls": [{"name": "find_order", "arguments": {"number": "A-17"}}]}


async def test_own_agents_and_tools_are_announced_and_run(stand: Stand) -> None:
    (stand.directory / "my_agents.py").write_text(MODULE)
    async with Double([CALL, "It is on its way."]) as double:
        stand.llm_url = double.url
        await asyncio.to_thread(stand.start_worker, "-I", "my_agents")
        async with AsyncOrchestrator(stand.settings()) as celeriac:
            echo = await celeriac.submit("echo", {"prompt": "hello"})
            assert (await echo.result(timeout=20)).content == "HELLO"
            desk = await celeriac.submit("desk", {"prompt": "Where is A-17?"})
            result = await desk.result(timeout=20)
            assert result.content == "It is on its way."
            assert result.stats.tool_calls == 1
        told = double.requests[-1].body["messages"][-1]
        assert told["content"] == "order A-17 is on its way"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CELERIAC_AGENTS__A__TOOLS": '["nope"]'}, "'nope'"),
        ({"CELERIAC_AGENTS__A__KIND": "nope"}, "kind 'nope' is not known"),
        ({"CELERIAC_STORAGE__BACKEND": "memory"}, "storage.backend"),
        (
            {"CELERIAC_SERVICES__AGENT_MANAGER__ENABLED": "false"},
            "services.agent_manager.enabled",
        ),
        ({"CELERIAC_LLM__MODLE": "x"}, "model"),
        (
            {
                "REDIS_URL": "redis://127.0.0.1:9/0",
                "CELERIAC_WORKER__STORE_PATIENCE": "100ms",
            },
            "127.0.0.1:9",
        ),
    ],
)
def test_a_worker_that_cannot_serve_says_why_and_does_not_start(
    stand: Stand, variables: dict[str, str], said: str
) -> None:
    stand.environment.update(variables)
    worker = stand.start_worker(wait=False)
    assert worker.wait() == (69 if "REDIS_URL" in variables else 2)
    last = worker.text().strip().splitlines()[-1]
    assert said in last
    assert "Traceback" not in worker.text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no module 'my_agents' in "),
        ("def broken(:", "my_agents.py, line 1: SyntaxError: invalid syntax; correct"),
        (
            "from workers import extend\n@extend\ndef desk(manager, tools):\n    1 / 0",
            "my_agents.py, line 4: ZeroDivisionError: division by zero; correct it",
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_told_in_one_line(
    stand: Stand, text: str | None, said: str
) -> None:
    if text is not None:
        (stand.directory / "my_agents.py").write_text(text)
    worker = stand.start_worker("-I", "my_agents", wait=False)
    assert worker.wait() == 2
    assert said in worker.text().strip().splitlines()[-1]
    assert "Traceback" not in worker.text()
