"""What can be set of the two services: of running tasks and of conversations."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from conversations.conversation import (
    DEFAULT_CONTEXT_WINDOW,
    DEFAULT_MAX_MESSAGES,
    MOST,
    Compaction,
    ConversationConfig,
    OnFailure,
)
from conversations.json_value import Text
from conversations.message import Role
from orchestrator.duration import Seconds
from orchestrator.errors import ServiceDisabled
from orchestrator.settings_section import Count, Section


class AgentManagerSettings(Section):
    """How workers run tasks."""

    enabled: bool = True
    """Whether tasks can be submitted and run at all."""
    max_concurrent_tasks: Count = Field(default=10, ge=1, le=100_000)
    """Runs that one worker process holds at once; `-c` of a worker wins."""
    task_timeout: Seconds = 300.0
    """Soft limit: seconds in `running` after which an agent must wrap up."""
    time_limit_grace: Seconds = 30.0
    """The hard limit is task_timeout plus this."""
    strict_tools: bool = False
    """Refuse an agent whose tools read private and foreign text and send out."""

    @property
    def time_limit(self) -> float:
        """The hard limit, in seconds."""
        return self.task_timeout + self.time_limit_grace


class ConversationsSettings(Section):
    """How much history is kept and how much of it a model sees."""

    enabled: bool = True
    """Whether tasks may continue conversations."""
    max_messages: Count = Field(default=DEFAULT_MAX_MESSAGES, ge=1, le=MOST)
    """Retention: oldest whole turns beyond it are dropped."""
    context_window: Count = Field(default=DEFAULT_CONTEXT_WINDOW, ge=1, le=MOST)
    """Messages of history that a model sees at most."""
    context_tokens: Count | None = Field(default=None, ge=1, le=MOST)
    """Tokens of messages that a model sees at most; null sets no bound."""
    compaction: Compaction = "drop"
    """History beyond these bounds: `drop`, `summarise`, or `none` (refuse the run)."""
    on_failure: OnFailure = "keep_user"
    """A turn without an answer: `keep_user` (question and closing mark) or `drop`."""
    client_roles: tuple[Role, ...] = tuple(Role)
    """Roles that clients may add or import; turns of tasks are not asked."""
    redact: Text | None = None
    """`package.module:function` that takes out of a message what must not be stored."""
    ttl: Seconds | None = None
    """A conversation untouched for so long is deleted; null keeps it."""

    @model_validator(mode="after")
    def _window_within_retention(self) -> Self:
        if self.context_window > self.max_messages:
            raise ValueError(
                f"context_window ({self.context_window}) must not exceed max_messages"
                f" ({self.max_messages}); lower context_window or raise max_messages"
            )
        return self

    @property
    def conversation_config(self) -> ConversationConfig:
        """The default limits of a new conversation."""
        return ConversationConfig(
            max_messages=self.max_messages,
            context_window=self.context_window,
            context_tokens=self.context_tokens,
            compaction=self.compaction,
            on_failure=self.on_failure,
            ttl_seconds=self.ttl,
        )


class ServicesSettings(Section):
    """The two services; each can be switched off."""

    agent_manager: AgentManagerSettings = AgentManagerSettings()
    """How workers run tasks."""
    conversations: ConversationsSettings = ConversationsSettings()
    """How much history is kept and how much of it a model sees."""

    def require_agent_manager(self) -> None:
        """Refuse to bring up what runs tasks while that is switched off.

        Raises:
            ServiceDisabled: it is.
        """
        if not self.agent_manager.enabled:
            raise ServiceDisabled("agent_manager")
