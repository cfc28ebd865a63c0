"""The scripted endpoint as a child process: it quotes documents and calls no model."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.cli.exit_codes import Unavailable
from orchestrator.cli.processes import double_command, start, stop

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_LATENCY_SECONDS = 0.05


@asynccontextmanager
async def open_double() -> AsyncIterator[dict[str, str]]:
    """Start the double; yield the variables that make workers ask it.

    Raises:
        Unavailable: it did not start.
    """
    double = await start(
        double_command("--demo", "--latency", str(_LATENCY_SECONDS)),
        {},
        errors=DEVNULL,
    )
    try:
        url = await _announced_url(double)
        yield {"CELERIAC_LLM__BASE_URL": url, "CELERIAC_LLM__API_KEY": "null"}
    finally:
        await stop(double, grace_seconds=_STOP_SECONDS)


async def _announced_url(double: Process) -> str:
    if double.stdout is None:
        raise AssertionError("the double is started with a pipe")
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = await double.stdout.readline()
        return str(json.loads(line)["url"])
    except (TimeoutError, ValueError, KeyError, TypeError):
        raise Unavailable(
            "the scripted endpoint did not start; run: celeriac double --demo"
        ) from None
