"""The processes that the command line starts, and how they are watched.

Workers, Flower, the double and the probe belong to other rooms; they are known here
by their command lines alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import IO, NoReturn

from orchestrator import flower_settings
from orchestrator.child_process import tied
from orchestrator.cli import exit_codes
from orchestrator.cli.output import echo_if_heard
from orchestrator.errors import InvalidSettings, OrchestratorError
from orchestrator.plain_text import plain
from orchestrator.settings import Settings

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""Between two starts of a process that keeps ending."""
_STEADY_SECONDS = 60.0
"""A process that ran for so long starts again after the first pause."""
_LONGEST_LINE_BYTES = 1024 * 1024
_PACKAGES = ("workers", "orchestrator", "conversations")


class ChildRefused(OrchestratorError):
    """A child cannot take its settings or options: another start ends the same."""

    def __init__(self, name: str, *, last_line: str) -> None:
        super().__init__(
            f"{name} ended with code {exit_codes.USAGE}, because it cannot take its"
            f" settings or options: {last_line or 'it does not say which'}"
        )


def worker_command(*options: str) -> list[str]:
    """Return the command line of a worker, without what Celery's other commands load.

    Workers have nothing to say to each other, and asking costs a second at the start.
    """
    quiet = ("--without-gossip", "--without-mingle")
    return [sys.executable, "-m", "workers", *quiet, *options]


def flower_command(*options: str) -> list[str]:
    """Return the command line of Flower; options win over its settings file."""
    conf = f"--conf={flower_settings.__file__}"
    return [sys.executable, "-m", "celery", "-A", "workers", "flower", conf, *options]


def http_command() -> list[str]:
    """Return the command line of the HTTP service."""
    return [sys.executable, "-m", "orchestrator.http"]


def double_command(*options: str) -> list[str]:
    """Return the command line of the scripted endpoint."""
    return [sys.executable, "-m", "workers.llm.double", *options]


def probe_command(*options: str) -> list[str]:
    """Return the command line that asks an endpoint how it is."""
    return [sys.executable, "-m", "workers.llm.probe", "--json", *options]


def storage_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a child the same Redis and broker."""
    storage = settings.storage
    broker = storage.broker_url
    return {
        "CELERIAC_STORAGE__REDIS_URL": storage.redis_url.get_secret_value(),
        "CELERIAC_STORAGE__BROKER_URL": broker.get_secret_value() if broker else "null",
    }


def require_our_packages() -> None:
    """Refuse a directory in which a child would import another package for ours.

    Python looks there first for what it runs with `-m`, as Celery does.

    Raises:
        InvalidSettings: names what lies in the way.
    """
    for name in _PACKAGES:
        spec = find_spec(name)
        ours = spec.origin if spec else None
        for path in (Path(name) / "__init__.py", Path(f"{name}.py")):
            if path.exists() and not (ours and path.samefile(ours)):
                raise InvalidSettings(
                    [
                        f"{path.absolute()} hides Celeriac's package {name!r};"
                        " rename it, or start in another directory"
                    ]
                )


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by `command`, so that signals reach it directly.

    Raises:
        InvalidSettings: it would not find our packages.
    """
    require_our_packages()
    os.execve(command[0], list(command), {**os.environ, **environment})  # noqa: S606


async def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: IO[bytes] | int = PIPE,
    errors: int = STDOUT,
) -> Process:
    """Start a child that ends with this process, its output in one pipe by default."""
    return await asyncio.create_subprocess_exec(
        *tied(command),
        stdin=DEVNULL,
        stdout=output,
        stderr=errors,
        env={**os.environ, **environment},
        start_new_session=True,
        limit=_LONGEST_LINE_BYTES,
    )


async def stop(process: Process, *, grace_seconds: float) -> None:
    """Ask a child to end, wait, and kill it with its own children if it does not.

    A cancel meanwhile kills them at once: whoever asks twice wants no more waiting.
    """
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace_seconds):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()


async def keep_running(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    grace_seconds: float,
    first: Process | None = None,
) -> NoReturn:
    """Run a child until cancelled, again with a growing pause whenever it ends.

    Args:
        name: What its lines begin with.
        command: Its command line.
        environment: Variables added to this process's.
        grace_seconds: How long it may take to end before it is killed.
        first: One that runs already and is watched as the others are.

    Raises:
        ChildRefused: it ended with the code for settings that cannot be taken.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        started = monotonic()
        process = first or await start(command, environment)
        first = None
        code, last_line = await _until_ended(name, process, grace_seconds=grace_seconds)
        if code == exit_codes.USAGE:
            raise ChildRefused(name, last_line=last_line)
        if monotonic() - started >= _STEADY_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        _log("up", f"{name} ended with code {code}; starts again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


async def _until_ended(
    name: str, process: Process, *, grace_seconds: float
) -> tuple[int, str]:
    """Return its exit code and the last line that it wrote."""
    logging = asyncio.create_task(_log_lines(name, process))
    try:
        code = await process.wait()
    finally:
        await stop(process, grace_seconds=grace_seconds)
        last_line = await logging
    return code, last_line


async def _log_lines(name: str, process: Process) -> str:
    last = ""
    async for line in _lines(process):
        _log(name, line)
        last = line if line.strip() else last
    return last


async def _lines(process: Process) -> AsyncIterator[str]:
    output = process.stdout
    while output is not None:
        try:
            line = await output.readline()
        except ValueError:  # longer than the limit; asyncio drops it
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


def _log(name: str, line: str) -> None:
    echo_if_heard(f"{name:<9}| {plain(line)}")
