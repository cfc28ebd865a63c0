"""What `celeriac chat` finds out before the first question."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.agent_config import AgentConfig, AgentInfo, WorkerInfo
from orchestrator.cli.chat import _check_known
from orchestrator.errors import AgentNotFound

WORKER = WorkerInfo(id="w", hostname="h", pid=1, agents=(AgentConfig(name="a"),))


class Announcing:
    """An orchestrator whose only worker is announced after `looks` looks."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def _is_there(self) -> bool:
        self._left -= 1
        return self._left < 0

    async def agent(self, name: str) -> AgentInfo:
        for config in WORKER.agents if self._is_there() else ():
            if config.name == name:
                return AgentInfo(config=config)
        raise AgentNotFound(name)

    async def workers(self) -> tuple[WorkerInfo, ...]:
        return (WORKER,) if self._is_there() else ()


async def known(agent: str, *, looks: int) -> None:
    orchestrator: Any = Announcing(looks)
    await _check_known(orchestrator, agent)


@pytest.mark.parametrize("looks", [0, 1, 2])
async def test_an_agent_that_is_announced_meanwhile_is_known(looks: int) -> None:
    await known("a", looks=looks)


async def test_an_agent_that_no_worker_has_is_told_at_once() -> None:
    with pytest.raises(AgentNotFound):
        await known("b", looks=0)
    await known("b", looks=2)  # without a worker any name may yet be announced
