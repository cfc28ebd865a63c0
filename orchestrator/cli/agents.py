"""`celeriac agents`: who can be asked."""

from __future__ import annotations

import click

from orchestrator.agent_config import AgentInfo
from orchestrator.cli import exit_codes
from orchestrator.cli.connection import open_orchestrator, run_async
from orchestrator.cli.output import ago, echo_json, echo_table, json_option


@click.command("agents", epilog=exit_codes.EXPLAINED)
@json_option
def command(as_json: bool) -> None:
    """List the agents, how many live workers serve each, and how they fare."""
    run_async(_agents(as_json=as_json))


async def _agents(*, as_json: bool) -> None:
    async with open_orchestrator() as orchestrator:
        agents = await orchestrator.agents()
    if as_json:
        echo_json([_described(agent) for agent in agents])
        return
    echo_table(
        ("agent", "kind", "workers", "done", "failed", "last answer", "description"),
        (_row(agent) for agent in agents),
    )


def _described(agent: AgentInfo) -> dict[str, object]:
    told = agent.model_dump(mode="json")
    return told | {"failure_rate": agent.health.failure_rate}


def _row(agent: AgentInfo) -> tuple[object, ...]:
    health = agent.health
    return (
        agent.name,
        agent.config.kind,
        health.workers,
        health.successes,
        health.failures,
        ago(health.last_success_at),
        agent.config.description,
    )
