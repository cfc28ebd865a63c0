"""`celeriac config`: the effective settings and their schema."""

from __future__ import annotations

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.output import echo_json, echo_table, json_option
from orchestrator.cli.setting_rows import setting_rows
from orchestrator.settings import load_settings, settings_schema


@click.command("config", epilog=exit_codes.EXPLAINED)
@click.option("--schema", is_flag=True, help="Write the JSON Schema of celeriac.yaml.")
@json_option
def command(schema: bool, as_json: bool) -> None:
    """Show every setting, its value and where it comes from; secrets are masked."""
    if schema:
        echo_json(settings_schema())
        return
    rows = list(setting_rows(load_settings()))
    if as_json:
        echo_json([row._asdict() for row in rows])
    else:
        echo_table(("setting", "value", "source"), rows)
