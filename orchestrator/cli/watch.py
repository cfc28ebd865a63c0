"""`celeriac watch`: follow a task that was submitted elsewhere."""

from __future__ import annotations

import asyncio

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import duration, tenant_option
from orchestrator.cli.output import echo_json, json_option
from orchestrator.cli.waiting import wait_and_print
from orchestrator.duration import format_seconds
from orchestrator.errors import WaitTimeout
from orchestrator.task import TaskStatus


@click.command("watch", epilog=exit_codes.EXPLAINED)
@click.argument("task_id")
@click.option("--timeout", type=duration, help="How long to wait; the task goes on.")
@click.option("--after", default=-1, metavar="N", help="With --json: events beyond N.")
@tenant_option
@json_option
def command(
    task_id: str,
    timeout: float | None,
    after: int,
    tenant: str | None,
    as_json: bool,
) -> int:
    """Follow a task to its end; with --json, one event a line."""
    if as_json:
        return run_async(
            _events(task_id, after=after, timeout_seconds=timeout, tenant=tenant)
        )
    return run_async(_watch(task_id, timeout_seconds=timeout, tenant=tenant))


async def _watch(
    task_id: str, *, timeout_seconds: float | None, tenant: str | None
) -> int:
    async with open_orchestrator() as orchestrator:
        handle = await orchestrator.handle(task_id, tenant=tenant)
        return await wait_and_print(
            handle, timeout_seconds=timeout_seconds, as_json=False
        )


async def _events(
    task_id: str, *, after: int, timeout_seconds: float | None, tenant: str | None
) -> int:
    async with open_orchestrator() as orchestrator:
        handle = await orchestrator.handle(task_id, tenant=tenant)
        try:
            async with asyncio.timeout(timeout_seconds):
                async for event in handle.events(after=after):
                    echo_json(event)
        except TimeoutError:
            given = format_seconds(timeout_seconds or 0)
            text = f"task {task_id} has not ended after {given}; it goes on"
            raise WaitTimeout(text) from None
        completed = await handle.status() is TaskStatus.COMPLETED
    return exit_codes.OK if completed else exit_codes.TASK_FAILED
