"""The scripted endpoint as a child process: it quotes documents and calls no model."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from orchestrator.cli.exit_codes import Unavailable
from orchestrator.cli.processes import (
    ChildRefused,
    double_command,
    keep_running,
    start,
    stop,
)

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_LATENCY_SECONDS = 0.05


@asynccontextmanager
async def open_double() -> AsyncIterator[dict[str, str]]:
    """Start the double; yield the variables that make workers ask it.

    Raises:
        Unavailable: it did not start.
    """
    async with _started() as (_, url):
        yield _variables(url)


@asynccontextmanager
async def keep_double(
    *, on_refusal: Callable[[], object]
) -> AsyncIterator[dict[str, str]]:
    """Open the double as `open_double` does; one that ends is started again.

    Its address stays: workers know it from their start.

    Raises:
        Unavailable: it did not start.
        ChildRefused: it could not start again, of which `on_refusal` has told.
    """
    async with _started() as (double, url):
        command = _command("--port", str(urlsplit(url).port))
        keeper = asyncio.create_task(
            keep_running(
                "endpoint", command, {}, grace_seconds=_STOP_SECONDS, first=double
            )
        )
        keeper.add_done_callback(lambda _: on_refusal())
        try:
            yield _variables(url)
        finally:
            keeper.cancel()
            (end,) = await asyncio.gather(keeper, return_exceptions=True)
        if isinstance(end, ChildRefused):
            raise end


@asynccontextmanager
async def _started() -> AsyncIterator[tuple[Process, str]]:
    """Yield the double and its address."""
    double = await start(_command(), {}, errors=DEVNULL)
    try:
        yield double, await _announced_url(double)
    finally:
        await stop(double, grace_seconds=_STOP_SECONDS)


def _command(*options: str) -> list[str]:
    return double_command("--demo", "--latency", str(_LATENCY_SECONDS), *options)


def _variables(url: str) -> dict[str, str]:
    return {"CELERIAC_LLM__BASE_URL": url, "CELERIAC_LLM__API_KEY": "null"}


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
