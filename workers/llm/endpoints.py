"""The model endpoints of a process, by name, with what is known of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from orchestrator.gate import GateLimits, gate_name
from orchestrator.task import Usage
from workers.errors import InvalidAgent
from workers.llm.provider import LLMProvider


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a million tokens cost; so the product with tokens is in millionths."""

    input: Decimal = Decimal(0)
    cached_input: Decimal | None = None
    output: Decimal = Decimal(0)

    def micros(self, usage: Usage) -> int:
        """Return what a usage costs, rounded up."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        return self.micros_of(usage.input_tokens, usage.output_tokens, cached=cached)

    def micros_of(self, input_tokens: int, output_tokens: int, *, cached: int) -> int:
        """Return what tokens cost, some of the input from the endpoint's cache."""
        if self is FREE:
            return 0
        per_cached = self.input if self.cached_input is None else self.cached_input
        cost = self.input * (input_tokens - cached) + per_cached * cached
        cost += self.output * output_tokens
        return int(cost.to_integral_value(rounding=ROUND_CEILING))


FREE = Price()


@dataclass(frozen=True, kw_only=True)
class ServedEndpoint:
    """One endpoint: who asks it, and the rules for asking."""

    name: str
    base_url: str
    model: str
    """The model of requests that name none."""
    provider: LLMProvider
    limits: GateLimits = field(default_factory=GateLimits)
    max_wait_seconds: float = 600.0
    when_unavailable: Literal["fail", "wait"] = "fail"
    prices: Mapping[str, Price] = field(default_factory=dict)
    context_tokens: int | None = None
    ask_context_tokens: Callable[[str], Awaitable[int | None]] | None = None
    """Asks the endpoint itself for the context length of a loaded model."""

    async def context_of(self, model: str) -> int | None:
        """Return the context length of a model, as far as it is known."""
        if self.context_tokens is not None or self.ask_context_tokens is None:
            return self.context_tokens
        return await self.ask_context_tokens(model)

    def gate_of(self, model: str) -> str:
        """Return the name of the gate before a model."""
        return gate_name(self.name, self.base_url, model)

    def price_of(self, model: str) -> Price:
        """Return what a model costs: its price, that of `*`, or nothing."""
        return self.prices.get(model) or self.prices.get("*") or FREE


class Endpoints:
    """The endpoints of a process; the first is taken where none is named."""

    def __init__(self, served: tuple[ServedEndpoint, ...]) -> None:
        self._default = served[0]
        self._by_name = {endpoint.name: endpoint for endpoint in served}

    @property
    def default(self) -> ServedEndpoint:
        """The one that agents use by default."""
        return self._default

    def get(self, name: str | None) -> ServedEndpoint:
        """Return an endpoint.

        Raises:
            InvalidAgent: none has the name.
        """
        if name is None:
            return self._default
        found = self._by_name.get(name)
        if found is None:
            known = ", ".join(self._by_name)
            raise InvalidAgent(
                f"endpoint {name!r} is not configured on this worker; llm.endpoints"
                f" has: {known}"
            )
        return found

    async def aclose(self) -> None:
        """Close the connections to all of them."""
        for endpoint in self._by_name.values():
            await endpoint.provider.aclose()
