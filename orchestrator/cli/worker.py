"""`celeriac worker`: Celery's worker, with the Redis that this directory uses."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.processes import become, storage_environment, worker_command
from orchestrator.settings import load_settings


@click.command(
    "worker",
    epilog=exit_codes.EXPLAINED,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: Sequence[str]) -> None:
    """Run one worker in this process.

    OPTIONS are those of `celery worker`, such as -c 4 or --loglevel info.
    """
    become(worker_command(*options), storage_environment(load_settings()))
