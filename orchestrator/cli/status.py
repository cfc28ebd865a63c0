"""`celeriac status`: how the system stands now."""

from __future__ import annotations

from collections.abc import Iterator

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.options import tenant_option
from orchestrator.cli.output import echo_json, echo_table, json_option
from orchestrator.overview import (
    AgentOverview,
    BudgetOverview,
    Overview,
    WorkerOverview,
)
from orchestrator.plain_text import told
from orchestrator.readiness import Readiness

_NEXT_CALL_SECONDS = 1.0
"""So soon a call is let through, to see whether the endpoint is back."""
_AGENT_HEADS = ("agent", "workers", "pending", "running", "waiting", "oldest", "expect")
_WORKER_HEADS = ("worker", "runs", "queues", "release", "loop lag", "state")
_BUDGET_HEADS = ("budget of today", "tokens", "money")


@click.command("status", epilog=exit_codes.EXPLAINED)
@tenant_option
@json_option
def command(tenant: str | None, as_json: bool) -> int:
    """Show what waits and runs, who works, and whether a task would be taken now."""
    return run_async(_status(tenant, as_json=as_json))


async def _status(tenant: str | None, *, as_json: bool) -> int:
    async with open_orchestrator() as orchestrator:
        overview = await orchestrator.overview(tenant=tenant)
        readiness = await orchestrator.readiness()
    if as_json:
        told = overview.model_dump(mode="json")
        echo_json(told | {"readiness": readiness.model_dump(mode="json")})
    else:
        _print(overview, readiness)
    return exit_codes.OK if readiness.ready else exit_codes.UNAVAILABLE


def _print(overview: Overview, readiness: Readiness) -> None:
    echo_table(_AGENT_HEADS, map(_agent_row, overview.agents))
    echo_table(_WORKER_HEADS, map(_worker_row, overview.workers or ()))
    if overview.budgets:
        echo_table(_BUDGET_HEADS, map(_budget_row, overview.budgets))
    for line in _closed_gates(overview):
        click.echo(told(line))
    if warnings := (overview.store or {}).get("warnings"):
        click.echo(f"store: {warnings}", err=True)
    for part in readiness.parts:
        if not part.ready:
            click.echo(f"not ready: {part.name}: {told(part.detail)}", err=True)


def _agent_row(agent: AgentOverview) -> tuple[object, ...]:
    return (
        agent.name,
        agent.workers,
        agent.pending,
        agent.running,
        agent.waiting,
        _seconds(agent.oldest_due_seconds),
        _seconds(agent.expected_wait_seconds),
    )


def _worker_row(worker: WorkerOverview) -> tuple[object, ...]:
    return (
        worker.hostname,
        f"{worker.running}/{worker.slots}",
        ", ".join(worker.queues),
        worker.release,
        _seconds(worker.loop_lag_seconds),
        "drains" if worker.draining else "works",
    )


def _budget_row(budget: BudgetOverview) -> tuple[object, ...]:
    return (
        f"{budget.kind} {budget.name}",
        _of(budget.tokens, budget.most_tokens),
        _of(f"{budget.cost:.4f}", budget.most_cost),
    )


def _closed_gates(overview: Overview) -> Iterator[str]:
    for gate in overview.gates or ():
        if gate.closed_by:
            until = f"for {gate.closed_for_seconds:.0f} s"
            if gate.closed_for_seconds < _NEXT_CALL_SECONDS:
                until = "until one of its next calls succeeds"
            yield (
                f"closed: model {gate.model} of endpoint {gate.endpoint}"
                f" ({gate.closed_by.replace('_', ' ')}) {until},"
                f" {gate.waiting} waiting"
            )


def _of(amount: object, most: object) -> str:
    return f"{amount}" if most is None else f"{amount}/{most}"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}s"
