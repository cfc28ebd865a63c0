"""`celeriac http`: the HTTP service, as a process of its own."""

from __future__ import annotations

from importlib.util import find_spec

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.processes import become, http_command, storage_environment
from orchestrator.errors import InvalidSettings
from orchestrator.settings import load_settings

NEEDED = ("fastapi", "uvicorn", "httptools")


@click.command("http", epilog=exit_codes.EXPLAINED)
@click.option("--host", help="Where to listen; http.host by default.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Its port; http.port by default."
)
def command(host: str | None, port: int | None) -> None:
    """Serve the API on this machine, or with API keys beyond it.

    Any number of them may run; each needs only the Redis.
    """
    require_packages()
    given = {"host": host, "port": port}
    settings = load_settings(
        http={name: value for name, value in given.items() if value is not None}
    )
    environment = storage_environment(settings) | {
        "CELERIAC_HTTP__HOST": settings.http.host,
        "CELERIAC_HTTP__PORT": str(settings.http.port),
    }
    click.echo(f"HTTP: {settings.http.address}", err=True)
    become(http_command(), environment)


def require_packages() -> None:
    """Refuse to go on without the packages of the service.

    Raises:
        InvalidSettings: names what to install.
    """
    if not packages_are_there():
        raise InvalidSettings(
            ["the HTTP service is not installed; run `pip install 'celeriac[http]'`"]
        )


def packages_are_there() -> bool:
    """Whether the service could start."""
    return all(find_spec(name) is not None for name in NEEDED)
