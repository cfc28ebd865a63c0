"""Waiting for a task's end on behalf of a client that may leave."""

from __future__ import annotations

import asyncio
from time import monotonic

from starlette.requests import Request

from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.task import Task

SLICE_SECONDS = 10.0
"""One read of the log."""


class ClientGone(Exception):
    """The client closed its connection while it waited."""


async def wait_for_end(
    celeriac: AsyncOrchestrator,
    task_id: str,
    *,
    tenant: str,
    seconds: float,
    request: Request,
) -> Task:
    """Return the task once it has ended, or as it stands when time is up.

    Raises:
        ClientGone: nobody waits for the answer any more.
        TaskNotFound: none of this tenant has the id.
    """
    gone = asyncio.create_task(_disconnected(request))
    waiting = asyncio.create_task(_wait(celeriac, task_id, tenant, seconds))
    try:
        await asyncio.wait({gone, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        waiting.cancel()
        await asyncio.wait({gone, waiting})
    if waiting.cancelled():
        raise ClientGone
    return waiting.result()


async def wait_for_answer(
    celeriac: AsyncOrchestrator,
    task: Task,
    *,
    seconds: float,
    request: Request,
    key: str | None,
) -> Task:
    """Wait for what this request has submitted; without a key nobody else knows it.

    Raises:
        ClientGone: nobody waits any more; a task that nobody knows is cancelled, as it
            is when the service stops.
    """
    try:
        return await wait_for_end(
            celeriac, task.id, tenant=task.tenant, seconds=seconds, request=request
        )
    except (ClientGone, asyncio.CancelledError):
        if key is None:
            await celeriac.cancel(task.id, tenant=task.tenant)
        raise


async def _wait(
    celeriac: AsyncOrchestrator, task_id: str, tenant: str, seconds: float
) -> Task:
    deadline = monotonic() + seconds
    task = await celeriac.get(task_id, tenant=tenant)
    after = -1
    while not task.status.is_terminal and (left := deadline - monotonic()) > 0:
        events = await celeriac.read_events(
            task_id, after=after, wait_seconds=min(left, SLICE_SECONDS), tenant=tenant
        )
        after = events[-1].sequence if events else after
        if not events or any(event.type.is_end for event in events):
            task = await celeriac.get(task_id, tenant=tenant)
    return task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
