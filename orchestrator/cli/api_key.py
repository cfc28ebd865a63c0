"""`celeriac api-key`: a new key, and the lines of the settings that know its hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import click
import yaml

from conversations.json_value import NotStorable, check_identifier
from orchestrator.cli import exit_codes
from orchestrator.cli.output import echo_json, json_option
from orchestrator.http_settings import ApiKeySettings, Scope

PREFIX = "clk_"
"""So that a scanner for leaked secrets can tell what it has found."""
_RANDOM_BYTES = 32


@click.command("api-key", epilog=exit_codes.EXPLAINED)
@click.argument("name")
@click.option("--tenant", help="Whose tasks it sees; the settings' tenant by default.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows; may be repeated. By default read, submit and cancel.",
)
@json_option
def command(
    name: str, tenant: str | None, scopes: Sequence[str], as_json: bool
) -> None:
    """Make a key. It is shown once; the settings hold its hash alone."""
    for field, value in (("name", name), ("tenant", tenant or "default")):
        try:
            check_identifier(value)
        except NotStorable as exc:
            raise click.UsageError(f"{field} {exc.reason}") from None
    key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    hashed = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    chosen = [*scopes] or [str(scope) for scope in ApiKeySettings(hash=hashed).scopes]
    if as_json:
        named = {"name": name, "tenant": tenant, "scopes": chosen}
        echo_json({**named, "key": key, "hash": hashed})
        return
    click.echo("The key, which nothing can show again:", err=True)
    click.echo(key)
    click.echo("\nWhat the settings of the HTTP service need:\n", err=True)
    entry = {"hash": hashed, **({"tenant": tenant} if tenant else {}), "scopes": chosen}
    click.echo(_as_yaml({"http": {"keys": {name: entry}}}), nl=False, err=True)


def _as_yaml(lines: object) -> str:
    """Write it as the file must hold it: a name such as `007` is quoted."""
    text: str = yaml.safe_dump(lines, default_flow_style=None, sort_keys=False)
    return text
