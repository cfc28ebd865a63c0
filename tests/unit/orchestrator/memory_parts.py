"""The parts of an orchestrator that keeps everything in memory."""

from __future__ import annotations

from typing import Any

from conversations.conversation import ConversationConfig
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_gate import InMemoryGate
from orchestrator.parts import OrchestratorParts
from orchestrator.request import Defaults
from orchestrator.settings import Settings


def memory_parts(**given: Any) -> OrchestratorParts:
    """Return them, those given in their places; store and queue must be given."""
    usual = {
        "directory": InMemoryAgentDirectory(),
        "conversations": None,
        "conversation_config": ConversationConfig(),
        "agents": {},
        "defaults": Defaults(),
        "gate": InMemoryGate(),
        "budget": InMemoryBudget(),
        "toll": InMemoryToll(),
        "llm": Settings().llm,
    }
    return OrchestratorParts(**{**usual, **given})
