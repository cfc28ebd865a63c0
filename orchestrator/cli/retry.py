"""`celeriac retry`: submit ended tasks again."""

from __future__ import annotations

from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import echo_json, json_option
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.store import TaskFilter
from orchestrator.task import TaskStatus

PAGE = 200


@click.command("retry", epilog=exit_codes.EXPLAINED)
@click.argument("task_ids", nargs=-1)
@click.option("--all-failed", is_flag=True, help="Every failed task that fits.")
@click.option("--agent", metavar="NAME", help="With --all-failed: only this agent's.")
@click.option("--tag", metavar="WORD", help="With --all-failed: only those with it.")
@tenant_option
@json_option
def command(
    task_ids: Sequence[str],
    agent: str | None,
    tag: str | None,
    tenant: str | None,
    *,
    all_failed: bool,
    as_json: bool,
) -> None:
    """Submit the requests of ended tasks again, as new tasks.

    A failed task is submitted again once: a second --all-failed finds the same new
    tasks.
    """
    if bool(task_ids) == all_failed:
        raise click.UsageError("name tasks, or use --all-failed")
    failed = TaskFilter(status=TaskStatus.FAILED, agent_name=agent, tag=tag)
    wanted = failed if all_failed else None
    run_async(_retry(list(task_ids), wanted, tenant=tenant, as_json=as_json))


async def _retry(
    task_ids: list[str],
    wanted: TaskFilter | None,
    *,
    tenant: str | None,
    as_json: bool,
) -> None:
    async with open_orchestrator() as orchestrator:
        if wanted is not None:
            task_ids = await _all(orchestrator, wanted, tenant)
        for task_id in task_ids:
            handle = await orchestrator.retry(task_id, tenant=tenant)
            if as_json:
                echo_json({"task_id": task_id, "retried_as": handle.id})
            else:
                click.echo(f"{task_id}  {handle.id}")


async def _all(
    orchestrator: AsyncOrchestrator, wanted: TaskFilter, tenant: str | None
) -> list[str]:
    """Collect first, so that what is submitted here is not listed."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await orchestrator.list(wanted, limit=PAGE, cursor=cursor, tenant=tenant)
        found += [task.id for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            return found
