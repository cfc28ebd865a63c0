"""Wiring of the endpoints: which concrete parts ask the models of given settings."""

from __future__ import annotations

from orchestrator.llm_settings import EndpointSettings
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import Settings
from workers.llm.allowance import Allowance
from workers.llm.chat_completions import ChatCompletionsProvider
from workers.llm.endpoint_settings import endpoint_of, limits_of
from workers.llm.endpoints import Endpoints, Price, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_calls import CallRules
from workers.llm.governor import Governor
from workers.llm.request_body import Dialect


def open_governor(settings: Settings, parts: OrchestratorParts) -> Governor:
    """Return what asks the endpoints of the settings; sends nothing yet.

    Raises:
        InvalidEndpoint: a URL, key, header or certificate cannot be used.
    """
    served = tuple(
        _served(name, endpoint) for name, endpoint in settings.llm.by_name.items()
    )
    rules = CallRules(
        Gatekeeper(parts.gate), Allowance(tenants=settings.budgets), parts.toll
    )
    return Governor(Endpoints(served), rules)


def _served(name: str, settings: EndpointSettings) -> ServedEndpoint:
    endpoint = endpoint_of(settings)
    provider = ChatCompletionsProvider(
        endpoint,
        model=settings.model,
        limits=limits_of(settings),
        dialect=_dialect(settings),
    )
    return ServedEndpoint(
        name=name,
        base_url=endpoint.base_url,
        model=settings.model,
        provider=provider,
        limits=settings.limits.gate_limits,
        max_wait_seconds=settings.max_wait,
        when_unavailable=settings.when_unavailable,
        prices={
            model: Price(
                input=price.input,
                cached_input=price.cached_input,
                output=price.output,
            )
            for model, price in settings.prices.items()
        },
        context_tokens=settings.context_tokens,
        ask_context_tokens=provider.context_tokens,
    )


def _dialect(settings: EndpointSettings) -> Dialect:
    fixed: dict[str, object] = {}
    if settings.output_limit_field != "auto":
        fixed["output_limit_field"] = settings.output_limit_field
    if settings.replay_reasoning != "auto":
        fixed["replay_reasoning"] = settings.replay_reasoning == "always"
    if settings.response_format != "auto":
        fixed["response_format"] = settings.response_format
    if settings.message_order != "auto":
        fixed["message_order"] = settings.message_order
    return Dialect(**fixed, fixed=frozenset(fixed))  # type: ignore[arg-type]
