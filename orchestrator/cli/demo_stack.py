"""Brings up what the demo needs and takes it down: Redis, endpoint, one worker."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import click

from orchestrator.child_process import last_line
from orchestrator.cli.connection import open_orchestrator
from orchestrator.cli.endpoint_report import EndpointReport, ask_endpoint
from orchestrator.cli.exit_codes import Unavailable
from orchestrator.cli.processes import (
    start,
    stop,
    storage_environment,
    worker_command,
)
from orchestrator.cli.scripted_endpoint import open_double
from orchestrator.embedded import RedisServer
from orchestrator.errors import InvalidSettings
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.settings import Settings, load_settings
from orchestrator.store import TaskFilter
from orchestrator.task import TaskStatus

_READY_SECONDS = 60.0
"""A worker that ends is seen sooner; a busy machine takes its time."""
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1
_RUNS_AT_ONCE = 8


@asynccontextmanager
async def open_endpoint() -> AsyncIterator[tuple[EndpointReport, dict[str, str]]]:
    """Yield what the probe found and the variables that name what is to be used.

    The real endpoint where it is usable, else the double, which calls no model.
    """
    report = await ask_endpoint()
    if report.usable:
        yield report, {}
        return
    async with open_double() as environment:
        yield report, environment


def demo_settings(redis: RedisServer) -> Settings:
    """Return the settings with this Redis, whatever broker they name otherwise."""
    storage: dict[str, str | None] = {"backend": "redis", "redis_url": redis.url}
    if redis.kind != "configured":
        storage["broker_url"] = None
    return load_settings(storage=storage)


def require_agents(settings: Settings, names: Sequence[str]) -> None:
    """Refuse settings that leave out an agent of the demo.

    Raises:
        InvalidSettings: names what is missing.
    """
    missing = [name for name in names if name not in settings.agents]
    if missing:
        raise InvalidSettings(
            [f"agents.{name}: the demo needs it; add it back" for name in missing]
        )


async def require_idle(orchestrator: AsyncOrchestrator, redis: RedisServer) -> None:
    """Refuse a Redis where others' workers or tasks would mix with the demo's.

    Raises:
        click.UsageError: it is in use.
    """
    workers = await orchestrator.workers()
    unfinished = [
        (await orchestrator.list(TaskFilter(status=status), limit=1)).tasks
        for status in (TaskStatus.PENDING, TaskStatus.RUNNING)
    ]
    if workers or any(unfinished):
        raise click.UsageError(
            f"{redis} is in use (workers or unfinished tasks) and the demo would mix"
            " with it; unset REDIS_URL, or name an idle Redis"
        )


@asynccontextmanager
async def open_worker(
    settings: Settings, environment: dict[str, str], log: Path
) -> AsyncIterator[Process]:
    """Start a worker that logs to a file and yield it; stops it at the end."""
    with log.open("wb") as output:
        worker = await start(
            worker_command(
                *("-n", "demo@%h", "-c", str(_RUNS_AT_ONCE), "--loglevel", "info")
            ),
            {**environment, **storage_environment(settings)},
            output=output,
        )
    try:
        yield worker
    finally:
        await stop(worker, grace_seconds=_STOP_SECONDS)


async def wait_until_served(
    orchestrator: AsyncOrchestrator, agents: Sequence[str], worker: Process, log: Path
) -> None:
    """Wait until a live worker serves the agents.

    Raises:
        Unavailable: it ended or took too long; says what it logged last.
    """
    deadline = monotonic() + _READY_SECONDS
    while True:
        served = {a.name for a in await orchestrator.agents() if a.health.served}
        if served.issuperset(agents):
            return
        if worker.returncode is not None or monotonic() > deadline:
            raise Unavailable(f"the worker did not start: {last_line(log)}")
        await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def open_stack(
    redis: RedisServer, agents: Sequence[str], environment: dict[str, str], log: Path
) -> AsyncIterator[AsyncOrchestrator]:
    """Yield an orchestrator whose agents are served by a worker of the demo."""
    settings = demo_settings(redis)
    require_agents(settings, agents)
    async with open_orchestrator(settings) as orchestrator:
        if redis.kind == "configured":
            await require_idle(orchestrator, redis)
        async with open_worker(settings, environment, log) as worker:
            await wait_until_served(orchestrator, agents, worker, log)
            yield orchestrator
