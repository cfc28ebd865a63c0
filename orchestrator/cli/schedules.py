"""`celeriac schedules`: tasks that are submitted again and again."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import echo_json, echo_table, json_option
from orchestrator.cli.submit import read_input
from orchestrator.errors import AgentNotFound
from orchestrator.plain_text import told


@click.group("schedules", epilog=exit_codes.EXPLAINED)
def command() -> None:
    """List schedules, add and remove them."""


@command.command("list")
@tenant_option
@json_option
def list_command(tenant: str | None, *, as_json: bool) -> None:
    """List schedules with their next tick."""
    run_async(_list(tenant, as_json=as_json))


@command.command("add")
@click.argument("schedule_id", metavar="ID")
@click.argument("agent")
@click.argument("text", metavar="INPUT")
@click.option("--cron", required=True, help="Such as '30 6 * * 1-5'.")
@click.option("--time-zone", default="UTC", help="Such as Europe/Berlin.")
@click.option(
    "--missed",
    type=click.Choice(["one", "all", "skip"]),
    default="one",
    show_default=True,
    help="Which ticks run later when nothing was up to see them.",
)
@tenant_option
@json_option
def add_command(schedule_id: str, agent: str, text: str, **options: Any) -> None:
    """Submit a task for AGENT at each tick; replaces an earlier schedule of the ID."""
    run_async(_add((schedule_id, agent, text), **options))


@command.command("remove")
@click.argument("schedule_id", metavar="ID")
@tenant_option
def remove_command(schedule_id: str, tenant: str | None) -> None:
    """End a schedule; the tasks that it has submitted go on."""
    run_async(_remove(schedule_id, tenant))


async def _list(tenant: str | None, *, as_json: bool) -> None:
    async with open_orchestrator() as orchestrator:
        found = await orchestrator.schedules(tenant=tenant)
    if as_json:
        echo_json([schedule.model_dump(mode="json") for schedule in found])
        return
    echo_table(
        ("schedule", "agent", "cron", "time zone", "next"),
        ((s.id, s.task.agent_name, s.cron, s.time_zone, s.next_at) for s in found),
    )


async def _add(named: tuple[str, str, str], *, as_json: bool, **options: Any) -> None:
    schedule_id, agent, text = named
    async with open_orchestrator() as orchestrator:
        schedule = await orchestrator.schedule(
            schedule_id, agent, read_input(text, ()), **options
        )
        try:
            await orchestrator.agent(agent)
        except AgentNotFound as exc:
            click.echo(f"celeriac: each tick is refused while {told(exc)}", err=True)
    if as_json:
        echo_json(schedule)
    else:
        click.echo(f"{schedule.id}  next {schedule.next_at}")


async def _remove(schedule_id: str, tenant: str | None) -> None:
    async with open_orchestrator() as orchestrator:
        there_was = await orchestrator.unschedule(schedule_id, tenant=tenant)
    if not there_was:
        raise click.UsageError(f"there is no schedule {schedule_id!r}")
