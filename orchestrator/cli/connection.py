"""How a command reaches the system: settings, state directory, orchestrator."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.cli.output import echo_if_heard
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.settings import Settings, load_settings
from orchestrator.settings_sources import UP_LAYER, UP_URL_FILE

T = TypeVar("T")

STATE_DIRECTORY = UP_URL_FILE.parent
"""Where `celeriac up` keeps its Redis; settings read in its parent find it."""


AGAIN_SECONDS = 8.0
END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""What ends a command as Ctrl-C does; SIGHUP comes when its terminal is closed."""


def run_async(main: Coroutine[Any, Any, T], *, farewell: str = "") -> T:
    """Run a command's coroutine to its end; a signal interrupts it as Ctrl-C does.

    With a `farewell`, that is printed at once, before what takes its time to stop.
    """
    try:
        return asyncio.run(_interruptible(main, farewell))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _interruptible(main: Coroutine[Any, Any, T], farewell: str) -> T:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("asyncio.run makes a task")

    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        is_first = not task.cancelling()
        task.cancel()
        if is_first:
            # A library may swallow one cancel; what stops in time never sees these.
            loop.call_later(AGAIN_SECONDS, task.cancel)
            loop.call_later(2 * AGAIN_SECONDS, task.cancel)
        if farewell and is_first:
            echo_if_heard(farewell)

    numbers = (*END_SIGNALS, signal.SIGINT) if farewell else END_SIGNALS
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    return await main


def configured_url(settings: Settings) -> str | None:
    """Return the Redis that somebody chose, or None when there is none to respect."""
    if settings.source_of("storage.redis_url") in ("default", UP_LAYER):
        return None
    return settings.storage.redis_url.get_secret_value()


def open_orchestrator(settings: Settings | None = None) -> AsyncOrchestrator:
    """Return an orchestrator for this directory; `async with` closes it."""
    return AsyncOrchestrator(settings or load_settings())


def announce_url(state: Path, url: str) -> None:
    """Let commands in this directory find the Redis of `celeriac up`.

    Raises:
        OSError: it cannot be written; names the file, and leaves none.
    """
    path = state / UP_URL_FILE.name
    try:
        path.touch(mode=0o600)
        path.write_text(url)
    except OSError as exc:
        withdraw_url(state)
        raise OSError(exc.errno, exc.strerror, str(path)) from exc


def withdraw_url(state: Path) -> None:
    """Take the announcement back."""
    (state / UP_URL_FILE.name).unlink(missing_ok=True)
