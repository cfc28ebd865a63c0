"""What an executor is made of, the numbers it obeys, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from conversations.conversation import ConversationConfig
from conversations.service import ConversationService
from orchestrator.queue import TaskQueue
from orchestrator.store import TaskStore
from orchestrator.task import Task
from workers.agent_manager import AgentManager
from workers.insistence import STORE_PATIENCE_SECONDS


class Outcome(NamedTuple):
    """What became of one delivery of a task's message."""

    word: str
    """The task's terminal status, `released`, or why nothing was run."""
    code: str = ""
    """A failure's, or why the task is given back.

    Never a text that could hold what a user wrote.
    """


@dataclass(frozen=True, kw_only=True)
class ExecutorLimits:
    """Numbers that the executor obeys."""

    lease_seconds: float = 10.0
    max_result_bytes: int = 4 * 1024 * 1024
    max_message_bytes: int = 256 * 1024
    store_patience_seconds: float = STORE_PATIENCE_SECONDS
    """How long a step or ending is kept in memory while the store refuses it."""
    shutdown_grace_seconds: float = 25.0
    """How long a drained run may take to reach its next step boundary."""
    soft_time_limit_seconds: float | None = None
    """What a run may take here at most, before a longer limit of its task."""
    time_limit_seconds: float | None = None
    """The same of its hard limit."""

    def bound(self, task: Task) -> Task:
        """Return the task with limits that are no longer than these."""
        most = {
            "soft_time_limit_seconds": self.soft_time_limit_seconds,
            "time_limit_seconds": self.time_limit_seconds,
        }
        shorter = {
            name: seconds
            for name, seconds in most.items()
            if seconds is not None and seconds < (getattr(task, name) or inf)
        }
        return task.model_copy(update=shorter) if shorter else task


@dataclass(frozen=True, kw_only=True)
class ExecutorParts:
    """What an executor works with."""

    store: TaskStore
    queue: TaskQueue
    manager: AgentManager
    conversations: ConversationService | None
    """None when the conversations service is disabled."""
    conversation_config: ConversationConfig
