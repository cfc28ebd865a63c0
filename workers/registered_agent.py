"""An agent as its process knows it: the configuration, the object, its health."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from conversations.trusted import changed
from orchestrator.agent_config import AgentConfig, AgentHealth
from workers.agents.agent import Agent


@dataclass
class RegisteredAgent:
    """An agent of a process, and how its runs went."""

    config: AgentConfig
    agent: Agent
    is_ours: bool
    _successes: int = 0
    _succeeded_at: datetime | None = None
    _failed: AgentHealth = field(default_factory=lambda: AgentHealth(served=True))

    @property
    def health(self) -> AgentHealth:
        """How its runs in this process went; made for who asks, not at each run."""
        return changed(
            self._failed,
            successes=self._successes,
            last_success_at=self._succeeded_at,
        )

    def note_success(self) -> None:
        self._successes += 1
        self._succeeded_at = datetime.now(UTC)

    def note_failure(self, code: str) -> None:
        self._failed = changed(
            self._failed,
            failures=self._failed.failures + 1,
            last_failure_at=datetime.now(UTC),
            last_failure_code=code,
        )
