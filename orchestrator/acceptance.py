"""From requests to tasks: what is known of their agents, and whether they may be taken.

Checks all that needs no write; the store's create script checks the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from orchestrator.agent_config import AgentInfo
from orchestrator.errors import InvalidInput, ServiceDisabled
from orchestrator.parts import OrchestratorParts
from orchestrator.request import SubmitRequest
from orchestrator.task import DEFAULT_QUEUE, Task
from orchestrator.task_building import build_task

logger = logging.getLogger(__name__)

AGENT_MEMORY_SECONDS = 2.0
"""How long a submit trusts what it has read of an agent that is served."""
UNSERVED_MEMORY_SECONDS = 0.1
"""The same of one that is not served: a burst of submits asks once."""
TELL_AGAIN_SECONDS = 60.0
"""A burst of submits for an agent that is not served is told in the log once."""
_REMEMBERED_AGENTS = 1000

_UNSEEN: Final[tuple[float, AgentInfo | None]] = (0.0, None)

Agents = Mapping[str, AgentInfo | None]
"""What is known of each agent by name; None of one that nobody has announced."""


class KnownAgents:
    """Looks agents up in the directory and these settings, remembering for a moment."""

    def __init__(self, parts: OrchestratorParts) -> None:
        self._parts = parts
        self._seen: dict[str, tuple[float, AgentInfo]] = {}
        self._tell_again_at: dict[str, float] = {}

    def check_services(self, requests: Sequence[SubmitRequest]) -> None:
        """Refuse what a service that is switched off would do.

        Raises:
            ServiceDisabled: names the service.
        """
        if not self._parts.agent_manager_enabled:
            raise ServiceDisabled("agent_manager")
        if self._parts.conversations is None and any(
            request.conversation_id for request in requests
        ):
            raise ServiceDisabled("conversations")

    async def look_up(self, requests: Sequence[SubmitRequest]) -> Agents:
        """Return what is known of the requests' agents.

        Raises:
            StoreUnavailable: the directory did not answer.
        """
        now, agents, unseen = monotonic(), dict[str, AgentInfo | None](), list[str]()
        for name in {vars(request)["agent"] for request in requests}:
            until, info = self._seen.get(name, _UNSEEN)
            if until > now:
                agents[name] = info
            else:
                unseen.append(name)
        if unseen:
            found = await self._parts.directory.find_all(unseen)
            agents |= {name: self._note(name, found.get(name), now) for name in unseen}
        return agents

    def build(
        self,
        requests: Sequence[SubmitRequest],
        agents: Agents,
        *,
        by_hand: Task | None = None,
    ) -> list[Task]:
        """Make the tasks; one made by hand keeps its id, version and queue.

        Raises:
            InvalidInput: fields contradict each other or are too large.
        """
        tasks = []
        for index, request in enumerate(requests):
            info = agents[vars(request)["agent"]]
            try:
                task = build_task(
                    request,
                    agent=info.config if info else None,
                    defaults=self._parts.defaults,
                )
            except InvalidInput as exc:
                raise exc.within(index) if len(requests) > 1 else exc from None
            tasks.append(task)
        if by_hand is not None:
            tasks = [_as_made(tasks[0], by_hand)]
        return tasks

    def warn_unserved(self, task: Task, agents: Agents) -> str | None:
        """Say that no live worker serves a task that waits for one."""
        name = vars(task)["agent_name"]
        if name not in agents:
            return None  # it joined a run of that agent, which is under way
        info = agents[name]
        if (info is not None and info.health.served) or task.status.is_terminal:
            return None
        warning = (
            f"no live worker serves agent {task.agent_name!r}; the task is stored and"
            " runs once one is started with `celery -A workers worker`"
        )
        now = monotonic()
        if self._tell_again_at.get(task.agent_name, 0.0) <= now:
            if len(self._tell_again_at) >= _REMEMBERED_AGENTS:
                self._tell_again_at.clear()
            self._tell_again_at[task.agent_name] = now + TELL_AGAIN_SECONDS
            logger.warning(warning, extra={"task_id": task.id})
        return warning

    def _note(self, name: str, info: AgentInfo | None, now: float) -> AgentInfo | None:
        config = self._parts.agents.get(name)
        if info is None and config is not None:
            info = AgentInfo(config=config)
        if info is None:  # a worker that makes it known now says its queue and limits
            return None
        if len(self._seen) >= _REMEMBERED_AGENTS:
            self._seen.clear()
        served = info.health.served
        seconds = AGENT_MEMORY_SECONDS if served else UNSERVED_MEMORY_SECONDS
        self._seen[name] = (now + seconds, info)
        return info


def _as_made(task: Task, by_hand: Task) -> Task:
    kept = {
        "id": by_hand.id,
        "agent_version": by_hand.agent_version or task.agent_version,
    }
    if by_hand.queue != DEFAULT_QUEUE:
        kept["queue"] = by_hand.queue
    return task.model_copy(update=kept)
