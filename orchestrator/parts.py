"""What an orchestrator is made of, by protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from conversations.conversation import ConversationConfig
from conversations.service import ConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Budget
from orchestrator.budget_limits import SpendingLimits
from orchestrator.directory import AgentDirectory
from orchestrator.dues import Toll
from orchestrator.gate import Gate
from orchestrator.llm_settings import LLMSettings
from orchestrator.queue import TaskQueue
from orchestrator.request import Defaults
from orchestrator.store import TaskStore


@dataclass(frozen=True, kw_only=True)
class OrchestratorParts:
    """What an orchestrator works with; it closes them."""

    store: TaskStore
    queue: TaskQueue
    directory: AgentDirectory
    conversations: ConversationService | None
    """None when the service is disabled."""
    conversation_config: ConversationConfig
    agents: Mapping[str, AgentConfig]
    """Agents of this process's settings."""
    defaults: Defaults
    gate: Gate
    """Before the models."""
    budget: Budget
    """What may be spent on them."""
    toll: Toll
    """Of both, where no step's record pays."""
    budgets: Mapping[str, SpendingLimits] = field(default_factory=dict)
    """What each tenant may spend in a day."""
    llm: LLMSettings
    """The endpoints of this process's settings."""
    agent_manager_enabled: bool = True

    async def aclose(self) -> None:
        """Close every part, also when one cannot be closed."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.store.aclose)
            closing.push_async_callback(self.directory.aclose)
            closing.push_async_callback(self.queue.aclose)
