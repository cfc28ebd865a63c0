"""`celeriac flower`: Flower, closed to everybody but this machine or a login."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.processes import become, flower_command, storage_environment
from orchestrator.embedded import broker_version
from orchestrator.listening import why_taken
from orchestrator.settings import Settings, load_settings


@click.command(
    "flower",
    epilog=exit_codes.EXPLAINED,
    context_settings={"ignore_unknown_options": True},
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; others need a login.",
)
@click.option("--port", default=5555, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--basic-auth",
    "--basic_auth",
    metavar="USER:PASSWORD",
    envvar="FLOWER_BASIC_AUTH",
    help="The login; better set in the variable"
    " FLOWER_BASIC_AUTH, which no process list shows.",
)
@click.option(
    "--auth",
    metavar="REGEX",
    envvar="FLOWER_AUTH",
    help="Flower's OAuth logins; see its documentation.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(
    address: str,
    port: int,
    basic_auth: str | None,
    auth: str | None,
    options: Sequence[str],
) -> None:
    """Watch workers and tasks in the browser.

    OPTIONS are those of `celery flower`; `--conf FILE` reads yours instead of ours.
    """
    if basic_auth:
        check_logins(basic_auth)
    check_closed(address, has_login=bool(basic_auth or auth))
    refuse_addresses(options)
    if reason := why_taken(address, port):
        raise click.BadParameter(
            f"{port} on {address or 'all addresses'} cannot be used ({reason});"
            " choose another, or stop what listens there",
            param_hint="--port",
        )
    settings = load_settings()
    require_broker(settings)
    environment = storage_environment(settings)
    if basic_auth:
        environment["FLOWER_BASIC_AUTH"] = basic_auth
    if auth:
        environment["FLOWER_AUTH"] = auth
    click.echo(f"Flower: http://{address}:{port}", err=True)
    become(
        flower_command(f"--address={address}", f"--port={port}", *options), environment
    )


def require_broker(settings: Settings) -> None:
    """Refuse a broker of ours that does not answer; Flower would wait without end.

    Raises:
        StoreUnavailable: it is a Redis and does not answer.
    """
    storage = settings.storage
    url = (storage.broker_url or storage.redis_url).get_secret_value()
    if url.startswith(("redis", "unix")):
        broker_version(url)


def check_closed(address: str, *, has_login: bool) -> None:
    """Refuse an address that others can reach without a login."""
    if not has_login and not _is_loopback(address):
        raise click.BadParameter(
            f"{address or 'all addresses'}: Flower would be open to everybody who"
            " reaches this machine; set FLOWER_BASIC_AUTH=user:password, or use"
            " 127.0.0.1",
            param_hint="--address",
        )


def check_logins(basic_auth: str) -> None:
    """Refuse logins that Flower would let nobody in with; it takes several by commas.

    The message shows none of them.
    """
    for number, login in enumerate(basic_auth.split(","), 1):
        user, _, password = login.partition(":")
        if not (user.strip() and password):
            raise click.BadParameter(
                f"login {number} is no user:password; write FLOWER_BASIC_AUTH="
                "user:password, and several with a comma between",
                param_hint="--basic-auth",
            )


def refuse_addresses(options: Sequence[str]) -> None:
    """Refuse an address behind `--`, which Flower would take unchecked."""
    for option in options:
        if option.lstrip("-").startswith("address"):
            raise click.BadParameter(
                f"{option[:64]!r} would not be checked; give it before `--`",
                param_hint="OPTIONS",
            )


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
