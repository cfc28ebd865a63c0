"""`celeriac worker`: Celery's worker, with the Redis that this directory uses."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.processes import become, storage_environment, worker_command
from orchestrator.embedded import redis_version
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
    settings = load_settings()
    if settings.storage.backend == "redis":
        # Celery takes seconds, and a warning, to come to the same question.
        redis_version(settings.storage.redis_url.get_secret_value())
    become(worker_command(*options), storage_environment(settings))
