"""`celeriac cancel`: ask tasks to end."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import echo_json, json_option
from orchestrator.task import Task


@click.command("cancel", epilog=exit_codes.EXPLAINED)
@click.argument("task_ids", nargs=-1, required=True)
@tenant_option
@json_option
def command(task_ids: Sequence[str], tenant: str | None, as_json: bool) -> None:
    """Ask for the end of tasks; one that has ended stays as it is."""
    run_async(_cancel(task_ids, tenant=tenant, as_json=as_json))


async def _cancel(
    task_ids: Sequence[str], *, tenant: str | None, as_json: bool
) -> None:
    async with open_orchestrator() as orchestrator:
        for task_id in task_ids:
            task = await orchestrator.cancel(task_id, tenant=tenant)
            if as_json:
                echo_json(task)
            else:
                click.echo(f"{task.id}  {_state(task)}")


def _state(task: Task) -> str:
    if task.cancel_requested_at and not task.status.is_terminal:
        return f"{task.status.value}, cancel requested"
    return task.status.value
