"""What the worker of the test of docs/redis-keys.md serves beside the defaults.

Loaded by the worker (`-I keys_agents`) from a copy in its directory.
"""

from __future__ import annotations

import os
import signal

from orchestrator import AgentConfig
from workers import extend, tool
from workers.agent_manager import AgentManager
from workers.agents.agent import AgentInput, AgentResult, RunContext
from workers.tools.registry import ToolRegistry


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "seen"


@tool(effect="idempotent", requires_approval=True)
def sign() -> str:
    """Sign, once a person has approved it."""
    return "signed"


class Mortal:
    """Takes its worker down in its first two attempts."""

    async def run(self, ctx: RunContext, agent_input: AgentInput) -> AgentResult:
        if ctx.task.attempt <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return AgentResult(content="alive")


@extend
def register(manager: AgentManager, tools: ToolRegistry) -> None:
    """Register the agents and their tools."""
    for each in (look, sign):
        tools.register(each)
    manager.register_agent(AgentConfig(name="looker", tools=(look.name,)))
    manager.register_agent(AgentConfig(name="signer", tools=(sign.name,)))
    manager.register_agent(AgentConfig(name="mortal"), Mortal())
