"""How a command reaches the system: settings, state directory, orchestrator."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.embedded import redis_version
from orchestrator.errors import StoreUnavailable
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.settings import Settings, load_settings

T = TypeVar("T")

STATE_DIRECTORY = Path(".celeriac")
"""Where `celeriac up` keeps its Redis; commands in the same directory find it."""
_URL_FILE = "redis.url"


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end; SIGTERM interrupts it as Ctrl-C does."""
    try:
        return asyncio.run(_interruptible(main))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _interruptible(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await main


def settings_here() -> Settings:
    """Return the settings, with the Redis of a running `celeriac up` if none is set."""
    settings = load_settings()
    if configured_url(settings) is not None:
        return settings
    url = _url_of_up(STATE_DIRECTORY)
    return load_settings(storage={"redis_url": url}) if url else settings


def configured_url(settings: Settings) -> str | None:
    """Return the Redis that somebody chose, or None when only the default stands."""
    if settings.source_of("storage.redis_url") == "default":
        return None
    return settings.storage.redis_url.get_secret_value()


def open_orchestrator(settings: Settings | None = None) -> AsyncOrchestrator:
    """Return an orchestrator for this directory; `async with` closes it."""
    return AsyncOrchestrator(settings or settings_here())


def announce_url(state: Path, url: str) -> None:
    """Let commands in this directory find the Redis of `celeriac up`."""
    path = state / _URL_FILE
    path.touch(mode=0o600)
    path.write_text(url)


def withdraw_url(state: Path) -> None:
    """Take the announcement back."""
    (state / _URL_FILE).unlink(missing_ok=True)


def _url_of_up(state: Path) -> str | None:
    try:
        url = (state / _URL_FILE).read_text().strip()
        redis_version(url)
    except (OSError, StoreUnavailable):
        return None
    return url
