"""What an orchestrator is made of, by protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from conversations.conversation import ConversationConfig
from conversations.service import ConversationService
from orchestrator.agent_config import AgentConfig
from orchestrator.directory import AgentDirectory
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
    agent_manager_enabled: bool = True

    async def aclose(self) -> None:
        """Close every part, also when one cannot be closed."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.store.aclose)
            closing.push_async_callback(self.directory.aclose)
            closing.push_async_callback(self.queue.aclose)
