"""How a figure is measured and shown: with default settings, one line each."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.fleet import Fleet, running_fleet
from tests.faults.restartable_redis import RestartableRedis
from tests.faults.scripted_model import CountingModel

DEFAULTS = {"CELERIAC_WORKER__LEASE": "10s", "CELERIAC_WORKER__HEARTBEAT": "3s"}
EXTERNAL_KILLS = {"CELERIAC_WORKER__MAX_CRASHES": "50"}
"""Kills from outside are no task's fault, however many meet the same one."""


@asynccontextmanager
async def fresh_fleet(
    *,
    model: CountingModel | None = None,
    broker_database: int | None = None,
    **environment: str,
) -> AsyncIterator[Fleet]:
    """A fleet with default settings on a Redis of its own."""
    server = RestartableRedis()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            async with running_fleet(
                server,
                Path(directory),
                model=model,
                environment=DEFAULTS | environment,
                broker_database=broker_database,
            ) as fleet:
                yield fleet
    finally:
        server.close()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def spread(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and worst of some durations."""
    ordered = sorted(seconds)
    if not ordered:
        return "nothing measured"
    place = min(len(ordered) - 1, int(len(ordered) * 0.99))
    return (
        f"p50 {ordered[len(ordered) // 2]:.2f} s, p99 {ordered[place]:.2f} s,"
        f" worst {ordered[-1]:.2f} s of {len(ordered)}"
    )
