"""Everything in the caller's process, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import threading

import pytest

from orchestrator import AgentConfig
from orchestrator.settings import Settings
from orchestrator.task import TaskStatus
from workers.agent_manager import LocalAgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.heartbeat import Heartbeat
from workers.in_process import open_orchestrator
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry


class Waits:
    """Never ends by itself."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        await asyncio.Event().wait()
        return AgentResult(content="")


async def test_a_run_that_was_to_begin_as_it_closed_does_not() -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    manager.register_agent(AgentConfig(name="waits"), Waits())
    before = asyncio.all_tasks()
    async with open_orchestrator(Settings(), manager=manager) as celeriac:
        await celeriac.submit("waits", {"prompt": "x"})
    await asyncio.sleep(0)  # the turn of the loop in which it would have begun
    assert asyncio.all_tasks() == before


async def test_no_more_run_at_once_than_there_are_slots() -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    class Counted:
        async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
            begun.append(ctx.task.id)
            await go_on.wait()
            return AgentResult(content="done")

    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    manager.register_agent(AgentConfig(name="counted"), Counted())
    settings = Settings(services={"agent_manager": {"max_concurrent_tasks": 2}})
    async with open_orchestrator(settings, manager=manager) as celeriac:
        tasks = [await celeriac.submit("counted", {}) for _ in range(3)]
        async with asyncio.timeout(10):
            while len(begun) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert begun == [task.id for task in tasks[:2]]
        go_on.set()
        await tasks[2].result(timeout=10)


async def test_one_that_is_given_up_before_it_is_open_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    announced = threading.Event()
    monkeypatch.setattr(Heartbeat, "wait_announced", lambda *_: announced.wait(10))
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    before = threading.enumerate()
    opening = asyncio.create_task(
        open_orchestrator(Settings(), manager=manager).__aenter__()
    )
    await asyncio.sleep(0)  # its heartbeat has begun, and is waited for
    opening.cancel()
    announced.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    left = {each.name for each in threading.enumerate() if each not in before}
    assert "celeriac-heartbeat" not in left


async def test_a_message_may_join_a_run_of_another_agent() -> None:
    manager = LocalAgentManager(ScriptedLLMProvider([]), ToolRegistry())
    for name in ("waits", "other"):
        manager.register_agent(AgentConfig(name=name), Waits())
    async with open_orchestrator(Settings(), manager=manager) as celeriac:
        talk = {"conversation_id": "c"}
        first = await celeriac.submit("waits", {"prompt": "x"}, **talk)
        async with asyncio.timeout(10):
            while await first.status() is not TaskStatus.RUNNING:
                await asyncio.sleep(0.01)
        steering = await celeriac.submit(
            "other", {"prompt": "y"}, when_busy="steer", **talk
        )
    assert (steering.id, steering.warning) == (first.id, None)
