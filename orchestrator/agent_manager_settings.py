"""The settings of the service that runs tasks."""

from __future__ import annotations

from pydantic import Field

from orchestrator.duration import Seconds
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
