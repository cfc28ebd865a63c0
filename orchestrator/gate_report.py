"""How the gates before the configured models stand, for people who watch them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.agent_config import ModelChoice
from orchestrator.gate import GateLimits, GateState, gate_name
from orchestrator.llm_settings import DEFAULT_ENDPOINT
from orchestrator.parts import OrchestratorParts


class GateReport(NamedTuple):
    """One model of one endpoint."""

    endpoint: str
    base_url: str
    model: str
    limits: GateLimits
    state: GateState


async def read_gates(parts: OrchestratorParts) -> tuple[GateReport, ...]:
    """Return the gates of each endpoint's own model and of the agents' models."""
    reports = []
    for endpoint, model in dict.fromkeys(_models(parts)):
        settings = parts.llm.by_name[endpoint]
        limits = settings.limits.gate_limits
        gate = gate_name(endpoint, settings.base_url, model)
        state = await parts.gate.state(gate, limits)
        reports.append(GateReport(endpoint, settings.base_url, model, limits, state))
    return tuple(reports)


def _models(parts: OrchestratorParts) -> Iterator[tuple[str, str]]:
    by_name = parts.llm.by_name
    for name, settings in by_name.items():
        yield name, settings.model
    for agent in parts.agents.values():
        own = ModelChoice(endpoint=agent.endpoint, model=agent.model)
        for choice in (own, *agent.fallback):
            endpoint = choice.endpoint or DEFAULT_ENDPOINT
            yield endpoint, choice.model or by_name[endpoint].model
