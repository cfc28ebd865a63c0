"""`celeriac up`: Redis, workers, HTTP and Flower together, for one machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import (
    END_SIGNALS,
    STATE_DIRECTORY,
    announce_url,
    configured_url,
    run_async,
    withdraw_url,
)
from orchestrator.cli.http import packages_are_there
from orchestrator.cli.output import echo_if_heard
from orchestrator.cli.processes import (
    flower_command,
    http_command,
    keep_running,
    require_our_packages,
    storage_environment,
    worker_command,
)
from orchestrator.cli.scripted_endpoint import keep_double
from orchestrator.cli.up_notes import tell_endpoint, tell_ready
from orchestrator.embedded import RedisServer, open_redis
from orchestrator.errors import InvalidSettings
from orchestrator.listening import why_taken
from orchestrator.settings import Settings, load_settings

_FLOWER_WAIT_SECONDS = 15.0
"""It asks the workers as it starts, and complains of each answer that is missing."""
_FLOWER_GRACE_SECONDS = 5.0
_HTTP_GRACE_SECONDS = 10.0
_WORKER_MARGIN_SECONDS = 5.0
"""Beyond its own grace, before a worker that does not end is killed."""


@click.command("up", epilog=exit_codes.EXPLAINED)
@click.option(
    "--workers",
    default=1,
    type=click.IntRange(1, 64),
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1),
    help="Runs at once in each; max_concurrent_tasks by default.",
)
@click.option(
    "-I",
    "--include",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module with your own agents for the workers; may be repeated.",
)
@click.option("--flower/--no-flower", default=True, show_default=True)
@click.option(
    "--scripted",
    is_flag=True,
    help="Ask the scripted endpoint, which quotes documents and calls no model.",
)
@click.option(
    "--flower-port", default=5555, type=click.IntRange(1, 65535), show_default=True
)
@click.option(
    "--http/--no-http",
    "http",
    default=True,
    show_default=True,
    help="The HTTP service, where it is installed.",
)
@click.option(
    "--http-port", type=click.IntRange(1, 65535), help="Its port; http.port by default."
)
@click.option(
    "--state",
    default=STATE_DIRECTORY,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where a private Redis keeps its data.",
)
def command(state: Path, scripted: bool, http_port: int | None, **wanted: Any) -> int:
    """Keep Redis, workers, HTTP and Flower running until Ctrl-C.

    Uses REDIS_URL when it is set, else starts a private Redis that keeps its data in
    the state directory. A process that ends is started again, ever more slowly; one
    that cannot take its settings or options ends them all.
    """
    settings = _load(http_port)
    settings.services.require_agent_manager()
    require_our_packages()
    wanted["http"] = wanted["http"] and packages_are_there()
    fleet = _Fleet(**wanted)
    if settings.storage.backend != "redis":
        raise InvalidSettings(
            ["storage.backend: memory is seen by one process only; set it to redis"]
        )
    with open_redis(state, url=configured_url(settings)) as redis:
        # Only now: two of them in one directory should hear of each other first.
        fleet.require_free_ports(settings)
        settings = _load(http_port, storage={"redis_url": redis.url})
        _greet(redis, state)
        fleet.greet(settings)
        with _announced(redis, state):
            run_async(_run(fleet, settings, scripted=scripted))
    return exit_codes.OK


@contextmanager
def _announced(redis: RedisServer, state: Path) -> Iterator[None]:
    """Let commands in this directory find a private Redis while it runs."""
    if redis.kind == "configured":
        yield
        return
    announce_url(state, redis.url)
    try:
        yield
    finally:
        withdraw_url(state)


@dataclass(frozen=True, kw_only=True)
class _Fleet:
    """Which processes are wanted."""

    workers: int
    concurrency: int | None
    modules: Sequence[str]
    flower: bool
    flower_port: int
    http: bool

    @property
    def flower_url(self) -> str:
        """Where a browser of this machine reaches Flower."""
        return f"http://127.0.0.1:{self.flower_port}"

    def require_free_ports(self, settings: Settings) -> None:
        """Refuse ports that somebody listens on.

        Raises:
            click.BadParameter: names the first one.
        """
        if self.flower:
            require_free_port(self.flower_port, option="flower")
        if self.http:
            require_free_port(settings.http.port, option="http")

    def greet(self, settings: Settings) -> None:
        """Say where the services are."""
        if self.flower:
            click.echo(f"up       | Flower: {self.flower_url}")
        if self.http:
            address = settings.http.address
            click.echo(f"up       | page: {address}/  API: {address}/v1")

    def commands(self) -> dict[str, list[str]]:
        """Return their command lines by name."""
        options = ["--loglevel", "info"]
        if self.concurrency:
            options += ["-c", str(self.concurrency)]
        if self.modules:  # Celery takes the last -I alone
            options += ["-I", ",".join(self.modules)]
        lines = {
            f"worker-{number}": worker_command("-n", f"worker-{number}@%h", *options)
            for number in range(1, self.workers + 1)
        }
        if self.flower:
            lines["flower"] = flower_command(
                "--address=127.0.0.1", f"--port={self.flower_port}"
            )
        if self.http:
            lines["http"] = http_command()
        return lines


def _load(http_port: int | None, **overrides: Any) -> Settings:
    if http_port is not None:
        overrides["http"] = {"port": http_port}
    return load_settings(**overrides)


def require_free_port(port: int, *, option: str) -> None:
    """Refuse a port of this machine that somebody listens on.

    Raises:
        click.BadParameter: it is taken.
    """
    if reason := why_taken("127.0.0.1", port):
        raise click.BadParameter(
            f"{port} on 127.0.0.1 cannot be used ({reason}); choose another,"
            f" or use --no-{option}",
            param_hint=f"--{option}-port",
        )


def _greet(redis: RedisServer, state: Path) -> None:
    click.echo(f"up       | using {redis}")
    if redis.warning:
        click.echo(f"up       | WARNING: {redis.warning}", err=True)
    if redis.kind != "configured":
        is_found = state.resolve() == STATE_DIRECTORY.resolve()
        where = (
            "commands in this directory find it; elsewhere" if is_found else "commands"
        )
        click.echo(f"up       | {where}: export REDIS_URL={redis.url}")


def _tell_scripted(double: Mapping[str, str]) -> None:
    """Say that no model is called, and how a worker of one's own asks none either."""
    click.echo("up       | the endpoint is scripted: no model is called")
    variables = " ".join(f"{name}={value}" for name, value in double.items())
    click.echo(
        "up       | a worker that you start beside these asks the configured one,"
        f" unless started with: {variables} celeriac worker"
    )


async def _run(fleet: _Fleet, settings: Settings, *, scripted: bool) -> None:
    """Keep the processes running until a signal ends them."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, *END_SIGNALS):
        loop.add_signal_handler(number, stopping.set)
    environment = storage_environment(settings)
    environment["CELERIAC_HTTP__PORT"] = str(settings.http.port)
    if fleet.flower and settings.http.flower_url is None:
        environment["CELERIAC_HTTP__FLOWER_URL"] = fleet.flower_url
    async with AsyncExitStack() as stack:
        if scripted:
            opening = keep_double(on_refusal=stopping.set)
            double = await stack.enter_async_context(opening)
            environment |= double
            _tell_scripted(double)
        ready = asyncio.create_task(tell_ready(settings, workers=fleet.workers))
        notes = [ready]
        if not scripted:
            notes.append(asyncio.create_task(tell_endpoint(environment)))
        keepers = [
            asyncio.create_task(
                _keep(name, line, environment, settings=settings, ready=ready)
            )
            for name, line in fleet.commands().items()
        ]
        try:
            await _until(stopping, keepers)
        finally:
            for note in notes:
                note.cancel()
            await asyncio.gather(*notes, return_exceptions=True)


async def _keep(
    name: str,
    command: list[str],
    environment: dict[str, str],
    *,
    settings: Settings,
    ready: asyncio.Task[None],
) -> None:
    if name == "flower":
        await asyncio.wait({ready}, timeout=_FLOWER_WAIT_SECONDS)
    await keep_running(
        name, command, environment, grace_seconds=_grace_seconds(name, settings)
    )


async def _until(
    stopping: asyncio.Event, keepers: Sequence[asyncio.Task[None]]
) -> None:
    """Wait until a signal or a child that is refused ends them all."""
    await asyncio.wait(
        [asyncio.create_task(stopping.wait()), *keepers],
        return_when=asyncio.FIRST_COMPLETED,
    )
    echo_if_heard("up       | stopping")
    for keeper in keepers:
        keeper.cancel()
    for end in await asyncio.gather(*keepers, return_exceptions=True):
        if isinstance(end, Exception):
            raise end


def _grace_seconds(name: str, settings: Settings) -> float:
    if name == "flower":
        return _FLOWER_GRACE_SECONDS
    if name == "http":
        return _HTTP_GRACE_SECONDS
    return settings.worker.shutdown_grace + _WORKER_MARGIN_SECONDS
