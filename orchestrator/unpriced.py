"""Budgets of money that cannot end, since a model that they pay for has no price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.agent_config import AgentConfig, ModelChoice
from orchestrator.budget_limits import SpendingLimits
from orchestrator.llm_settings import DEFAULT_ENDPOINT, LLMSettings


def unpriced(
    llm: LLMSettings,
    agents: Mapping[str, AgentConfig],
    tenants: Mapping[str, SpendingLimits],
) -> Iterator[str]:
    """Yield one sentence for each agent whose money is bounded in vain."""
    tenant_pays = any(limits.daily_cost is not None for limits in tenants.values())
    for name, agent in agents.items():
        own = agent.budget
        pays = tenant_pays or own.cost is not None or own.daily_cost is not None
        free = dict.fromkeys(_free_models(llm, agent)) if pays else {}
        if free:
            yield (
                f"agents.{name}: a budget of money bounds it, but {', '.join(free)} has"
                " no price and counts as free; set prices for it, or for `*`"
            )


def _free_models(llm: LLMSettings, agent: AgentConfig) -> Iterator[str]:
    for choice in (
        ModelChoice(endpoint=agent.endpoint, model=agent.model),
        *agent.fallback,
    ):
        endpoint = llm.by_name.get(choice.endpoint or DEFAULT_ENDPOINT)
        if endpoint is None:
            continue  # told elsewhere
        model = choice.model or endpoint.model
        if not endpoint.prices.keys() & {model, "*"}:
            where = choice.endpoint or DEFAULT_ENDPOINT
            yield f"model {model!r} of endpoint {where!r}"
