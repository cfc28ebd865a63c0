"""`celeriac double`: the scripted endpoint, for trying things without a model."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.cli.processes import become, double_command


@click.command(
    "double",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: Sequence[str]) -> None:
    """Serve the scripted endpoint. No model is called."""
    become(double_command(*options), {})
