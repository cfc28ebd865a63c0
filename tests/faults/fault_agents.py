"""What the workers under test serve: an agent whose tool leaves a line for each effect.

Loaded by the workers (`-I fault_agents`) from a copy in their directory.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conversations.json_value import JsonObject
from orchestrator import AgentConfig
from workers import extend, tool
from workers.agent_manager import AgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.tools.registry import ToolRegistry
from workers.tools.tool import Outcome, ToolContext


@tool(effect="idempotent")
def note(ctx: ToolContext, label: str, step: int) -> str:
    """Leave a line that says that the effect took place."""
    return _leave_line(ctx, label, step)


def _leave_line(ctx: ToolContext, label: str, step: int) -> str:
    line = {"label": label, "step": step, "key": ctx.idempotency_key}
    with Path(os.environ["FAULT_EFFECTS"]).open("a", encoding="utf-8") as effects:
        effects.write(json.dumps(line | {"pid": os.getpid()}) + "\n")
    return "noted"


def has_left_line(ctx: ToolContext, arguments: JsonObject) -> Outcome:
    """Look up whether a call that a crash cut short had its effect."""
    effects = Path(os.environ["FAULT_EFFECTS"])
    lines = effects.read_text(encoding="utf-8").splitlines() if effects.exists() else []
    keys = [json.loads(line)["key"] for line in lines]
    return Outcome(done=ctx.idempotency_key in keys, output="found")


@tool(effect="once")
def pay(ctx: ToolContext, label: str, step: int) -> str:
    """Leave a line that must not be left twice, and cannot be looked up."""
    return _leave_line(ctx, label, step)


@tool(effect="once", verify=has_left_line)
def pay_with_receipt(ctx: ToolContext, label: str, step: int) -> str:
    """Leave a line that must not be left twice, and can be looked up."""
    return _leave_line(ctx, label, step)


@tool(effect="pure")
async def hang() -> str:
    """Never answer, politely."""
    await asyncio.Event().wait()
    raise AssertionError


@tool(effect="pure")
def block(seconds: float) -> str:
    """Keep a thread and wait."""
    time.sleep(seconds)  # noqa: TID251 - the fault under test
    return "blocked"


@tool(effect="pure")
def spin(seconds: float) -> str:
    """Keep a thread and compute."""
    return _spun(seconds)


@tool(effect="pure")
async def spin_on_the_loop(seconds: float) -> str:
    """Compute where every other run of the process wants to go on."""
    return _spun(seconds)


def _spun(seconds: float) -> str:
    end = time.monotonic() + seconds
    turns = 0
    while time.monotonic() < end:
        turns += 1
    return f"{turns} turns"


STUCK = (hang, block, spin, spin_on_the_loop)
"""Tools that do not end by themselves within a limit."""


def overflow_the_stack() -> None:
    """Recurse in C until the kernel ends the process."""
    nested: list[object] = []
    for _ in range(10_000_000):
        nested = [nested]
    sys.setrecursionlimit(2**31 - 1)
    repr(nested)


DEATHS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "recursion": overflow_the_stack,
}


class Poison:
    """Takes its worker process down, in one way or another."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        DEATHS[str(agent_input.data.get("way", "kill"))]()
        raise AssertionError


class Sleeper:
    """A Python agent of many short steps."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        steps = int(str(agent_input.data.get("steps", 20)))

        async def work() -> int:
            await asyncio.sleep(0.2)
            return os.getpid()

        pids = [await ctx.step("work", work) for _ in range(steps)]
        output: JsonObject = {"pids": list(pids)}
        return AgentResult(content="slept", output=output)


class Blocker:
    """Blocks the event loop, once: the first attempt alone."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        if ctx.task.attempt == 1:
            seconds = float(str(agent_input.data["block_seconds"]))
            time.sleep(seconds)  # noqa: TID251 - the fault under test
        return AgentResult(content=f"attempt {ctx.task.attempt}")


@extend
def register(manager: AgentManager, tools: ToolRegistry) -> None:
    for each in (note, pay, pay_with_receipt, *STUCK):
        tools.register(each)
    names = tuple(each.name for each in STUCK)
    manager.register_agent(AgentConfig(name="stuck", tools=names))
    limits = {"soft_time_limit_seconds": 1.2, "time_limit_seconds": 3.0}
    manager.register_agent(AgentConfig(name="limited", tools=names, **limits))
    manager.register_agent(AgentConfig(name="counter", tools=("note",), max_turns=50))
    manager.register_agent(
        AgentConfig(name="payer", tools=(pay.name, pay_with_receipt.name))
    )
    manager.register_agent(AgentConfig(name="poison"), Poison())
    manager.register_agent(AgentConfig(name="sleeper"), Sleeper())
    manager.register_agent(AgentConfig(name="blocker"), Blocker())
