"""A worker that is killed, stopped or frozen: its task goes on, and pays once."""

from __future__ import annotations

import asyncio
import signal

import pytest

from orchestrator import AsyncOrchestrator, EventType, TaskStatus
from orchestrator.journal import StepKind
from tests.stand import Stand, wait_until
from workers.llm.double import Double
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(120)

MODULE = """
from conversations.message import Message
from orchestrator import AgentConfig
from workers import extend
from workers.agents.agent import AgentResult
from workers.llm.provider import CompletionRequest


class Twice:
    async def run(self, ctx, agent_input):
        said = []
        for number in (1, 2):
            question = Message(role="user", content=f"part {number}")
            completion = await ctx.complete(CompletionRequest(messages=(question,)))
            said.append(completion.message.content)
        return AgentResult(content=" ".join(said))


@extend
def twice(manager, tools):
    manager.register_agent(AgentConfig(name="twice"), Twice())
"""


def asked(double: Double) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in double.requests]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
async def test_a_task_goes_on_elsewhere_after_its_last_recorded_step(
    stand: Stand, number: signal.Signals
) -> None:
    (stand.directory / "my_agents.py").write_text(MODULE)
    stand.environment["CELERIAC_WORKER__LEASE"] = "2s"
    stand.environment["CELERIAC_WORKER__HEARTBEAT"] = "500ms"
    slow = HttpReply(text="two", delay_seconds=6)
    async with (
        Double(["one", slow, "two", "two"]) as double,
        AsyncOrchestrator(stand.settings()) as celeriac,
    ):
        stand.llm_url = double.url
        first = await asyncio.to_thread(stand.start_worker, "-I", "my_agents")
        task = await celeriac.submit("twice", {"prompt": "go"})
        await asyncio.to_thread(wait_until, lambda: len(double.requests) == 2, 20)
        second = await asyncio.to_thread(stand.start_worker, "-I", "my_agents")
        first.signal(number)
        result = await task.result(timeout=60)
        if number is signal.SIGSTOP:
            first.signal(signal.SIGCONT)
        assert result.content == "one two"
        assert asked(double).count("part 1") == 1
        steps = await celeriac.steps(task.id)
        kinds = [step.kind for step in steps]
        assert kinds.count(StepKind.COMPLETION) == 2
        record = await task.get()
        assert record.status is TaskStatus.COMPLETED
        assert record.crashes == 0
        ends = [event async for event in task.events() if event.type.is_end]
        assert [event.type for event in ends] == [EventType.TASK_COMPLETED]
        assert second.process.poll() is None


async def test_a_task_that_kills_its_workers_stops_after_three_charges(
    stand: Stand,
) -> None:
    killer = MODULE.replace("said = []", "import os; os.kill(os.getpid(), 9)")
    (stand.directory / "my_agents.py").write_text(killer)
    stand.environment["CELERIAC_WORKER__LEASE"] = "1s"
    stand.environment["CELERIAC_WORKER__HEARTBEAT"] = "300ms"
    async with AsyncOrchestrator(stand.settings()) as celeriac:
        await asyncio.to_thread(stand.start_worker, "-I", "my_agents")
        task = await celeriac.submit("twice", {"prompt": "go"})
        for lives in range(1, 5):
            victim = stand.workers[-1]
            await asyncio.to_thread(victim.wait, 30)
            await asyncio.to_thread(
                stand.start_worker, "-I", "my_agents", wait=lives == 4
            )
        async with asyncio.timeout(30):
            ends = [event async for event in task.events() if event.type.is_end]
        assert [event.type for event in ends] == [EventType.TASK_FAILED]
        record = await task.get()
        assert record.failure is not None
        assert (record.failure.code, record.crashes) == ("crash_loop", 3)
        assert stand.workers[-1].process.poll() is None
