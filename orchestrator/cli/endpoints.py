"""`celeriac endpoints`: what the models are asked, and what waits for them."""

from __future__ import annotations

from dataclasses import asdict

import click

from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.output import echo_json, echo_table, json_option
from orchestrator.gate_report import GateReport


@click.command("endpoints", epilog=exit_codes.EXPLAINED)
@json_option
def command(as_json: bool) -> None:
    """Show the gate before each configured model; models without limits count 0."""
    run_async(_endpoints(as_json=as_json))


async def _endpoints(*, as_json: bool) -> None:
    async with open_orchestrator() as orchestrator:
        gates = await orchestrator.gates()
    if as_json:
        echo_json([_fields(gate) for gate in gates])
        return
    heads = ("endpoint", "model", "in flight", "waiting", "requests", "tokens", "gate")
    echo_table(heads, map(_row, gates))


def _fields(gate: GateReport) -> dict[str, object]:
    return {
        "endpoint": gate.endpoint,
        "base_url": gate.base_url,
        "model": gate.model,
        "limits": asdict(gate.limits),
        "state": asdict(gate.state),
    }


def _row(gate: GateReport) -> tuple[object, ...]:
    state, limits = gate.state, gate.limits
    return (
        gate.endpoint,
        gate.model,
        _of(state.in_flight, limits.in_flight),
        state.waiting,
        _of(state.requests, limits.requests),
        _of(state.tokens, limits.tokens),
        f"closed: {state.closed_by.replace('_', ' ')}" if state.closed_by else "open",
    )


def _of(used: int, limit: int | None) -> str:
    return f"{used}" if limit is None else f"{used}/{limit}"
