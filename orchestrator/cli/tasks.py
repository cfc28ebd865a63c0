"""`celeriac tasks`: what was submitted and how it stands."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.moment import Moment
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import ago, echo_json, echo_table, json_option
from orchestrator.cli.waiting import failure_line
from orchestrator.store import TaskFilter
from orchestrator.task import Task, TaskStatus


@click.command("tasks", epilog=exit_codes.EXPLAINED)
@click.option("--status", type=click.Choice([status.value for status in TaskStatus]))
@click.option("--agent", metavar="NAME", help="Only this agent's.")
@click.option("--conversation", metavar="ID", help="Only this conversation's.")
@click.option("--tag", metavar="WORD", help="Only those with this tag.")
@click.option("--since", type=Moment(), help="Accepted since then.")
@click.option("--until", type=Moment(), help="Accepted before that.")
@click.option("--limit", default=50, type=click.IntRange(1, 1000), show_default=True)
@click.option("--cursor", help="Where the page starts, from the page before.")
@tenant_option
@json_option
def command(
    status: str | None,
    agent: str | None,
    conversation: str | None,
    tag: str | None,
    as_json: bool,
    **page: Any,
) -> None:
    """List tasks, newest first."""
    task_filter = TaskFilter(
        status=TaskStatus(status) if status else None,
        agent_name=agent,
        conversation_id=conversation,
        tag=tag,
        created_after=page.pop("since"),
        created_before=page.pop("until"),
    )
    run_async(_tasks(task_filter, as_json=as_json, **page))


async def _tasks(task_filter: TaskFilter, *, as_json: bool, **page: Any) -> None:
    async with open_orchestrator() as orchestrator:
        found = await orchestrator.list(task_filter, **page)
    if as_json:
        echo_json(
            {
                "tasks": [task.model_dump(mode="json") for task in found.tasks],
                "next_cursor": found.next_cursor,
            }
        )
        return
    echo_table(
        ("task", "agent", "status", "attempt", "accepted", "note"),
        (_row(task) for task in found.tasks),
    )
    if found.next_cursor:
        click.echo(f"more: the same with --cursor {found.next_cursor}", err=True)


def _row(task: Task) -> tuple[object, ...]:
    return (
        task.id,
        task.agent_name,
        task.status.value,
        task.attempt,
        ago(task.created_at),
        failure_line(task),
    )
