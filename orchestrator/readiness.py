"""Could a task be taken now? Asks settings, store, broker and workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from pydantic import BaseModel, ConfigDict

from orchestrator.errors import OrchestratorError, ServiceDisabled
from orchestrator.parts import OrchestratorParts

PART_SECONDS: Final = 3.0
"""For each part to answer; probes commonly give up after a few seconds."""


class ReadinessPart(BaseModel):
    """One thing that a task needs."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    name: str
    """`agent_manager`, `store`, `broker` or `workers`."""
    ready: bool
    """Whether it would do its part."""
    detail: str
    """What was found, with the remedy when it is not ready."""


class Readiness(BaseModel):
    """Whether a task submitted now would be taken."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ready: bool
    """Whether every part is ready."""
    parts: tuple[ReadinessPart, ...]
    """Each part."""


async def read_readiness(parts: OrchestratorParts) -> Readiness:
    """Ask every part at once; none of them fails the question."""
    found = await asyncio.gather(
        _asked("store", _writable(parts)),
        _asked("broker", _reachable(parts)),
        _asked("workers", _served(parts)),
    )
    told = (_switched_on(parts), *found)
    return Readiness(ready=all(part.ready for part in told), parts=told)


async def _asked(name: str, question: Awaitable[ReadinessPart]) -> ReadinessPart:
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await question
    except OrchestratorError as exc:
        return ReadinessPart(name=name, ready=False, detail=str(exc))
    except TimeoutError:
        detail = f"it did not answer within {PART_SECONDS:g} s"
        return ReadinessPart(name=name, ready=False, detail=detail)


def _switched_on(parts: OrchestratorParts) -> ReadinessPart:
    enabled = parts.agent_manager_enabled
    detail = "enabled" if enabled else str(ServiceDisabled("agent_manager"))
    return ReadinessPart(name="agent_manager", ready=enabled, detail=detail)


async def _writable(parts: OrchestratorParts) -> ReadinessPart:
    report = await parts.store.check()
    await parts.store.probe()
    detail = f"takes writes; durability {report['durability']}"
    return ReadinessPart(name="store", ready=True, detail=detail)


async def _reachable(parts: OrchestratorParts) -> ReadinessPart:
    await parts.queue.check()
    return ReadinessPart(name="broker", ready=True, detail="answers")


async def _served(parts: OrchestratorParts) -> ReadinessPart:
    workers = [each for each in await parts.directory.workers() if not each.draining]
    served = {name for worker in workers for name in worker.served}
    missing = sorted(set(parts.agents) - served)
    if not workers:
        detail = "no worker is live; start one: celeriac worker"
    elif missing:
        detail = (
            f"no live worker serves {', '.join(missing)};"
            " start workers with the settings that name them, and their queues"
        )
    else:
        detail = f"{len(workers)} live, every configured agent is served"
    ready = bool(workers) and not missing
    return ReadinessPart(name="workers", ready=ready, detail=detail)
