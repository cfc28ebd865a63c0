"""The settings of the model endpoints: one by default, others by name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from conversations.json_value import Identifier, Text
from orchestrator.duration import Seconds, format_seconds
from orchestrator.gate import GateLimits
from orchestrator.loopback import is_loopback
from orchestrator.proxy_url import check_proxy_url
from orchestrator.settings_section import Count, Section

DEFAULT_ENDPOINT = "default"
"""The name of the endpoint that `llm` itself describes."""
_MIB = 1024 * 1024


class LimitSettings(Section):
    """What all workers together may ask of each model of an endpoint."""

    in_flight: Count | None = Field(default=None, ge=1)
    """Calls at once; null sets no bound."""
    requests_per_minute: Count | None = Field(default=None, ge=1)
    """Calls begun in any minute; null sets no bound."""
    tokens_per_minute: Count | None = Field(default=None, ge=1)
    """Tokens of prompts and answers in any minute; null sets no bound."""
    window: Seconds = 60.0
    """The length of what the two limits above call a minute."""

    @property
    def gate_limits(self) -> GateLimits:
        """The same, as a gate takes them."""
        return GateLimits(
            in_flight=self.in_flight,
            requests=self.requests_per_minute,
            tokens=self.tokens_per_minute,
            window_seconds=self.window,
        )


class PriceSettings(Section):
    """What a million tokens of a model cost, in your currency."""

    input: Decimal = Field(default=Decimal(0), ge=0, allow_inf_nan=False)
    """Tokens of the prompt."""
    cached_input: Decimal | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Those from the endpoint's prompt cache; null: as `input`."""
    output: Decimal = Field(default=Decimal(0), ge=0, allow_inf_nan=False)
    """Tokens of the answer, reasoning included."""


class EndpointSettings(Section):
    """One OpenAI-compatible endpoint."""

    base_url: Text = "http://localhost:11434/v1"
    """Where it answers; `/chat/completions` is added."""
    model: Text = Field(default="gpt-oss:20b", min_length=1, max_length=256)
    """The model of agents that name none."""
    api_key: SecretStr | None = None
    """Sent as a bearer token; null sends none."""
    connect_timeout: Seconds = 5.0
    """Longest wait for a connection."""
    first_byte_timeout: Seconds = 300.0
    """Longest wait for the first byte of an answer; local models load slowly."""
    idle_timeout: Seconds = 120.0
    """Longest silence between two bytes."""
    total_timeout: Seconds = 600.0
    """Longest duration of one call; a run's own limit may cut it shorter."""
    max_response_bytes: Count = Field(default=32 * _MIB, ge=1024)
    """Largest answer accepted, after decompression."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Headers added to each request."""
    proxy: SecretStr | None = None
    """An http(s) proxy's URL; null takes the environment's, none for loopback."""
    ca_file: Path | None = None
    """Authorities that sign its certificate; null: those of certifi."""
    client_certificate: Path | None = None
    """A PEM file with a certificate and its key, shown to the endpoint."""
    limits: LimitSettings = LimitSettings()
    """What all workers together may ask of each of its models."""
    max_wait: Seconds = 600.0
    """How long it may refuse (429) without one success before a run's attempt fails."""
    when_unavailable: Literal["fail", "wait"] = "fail"
    """`wait` holds runs back while it is down, at most for `max_wait`."""
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """What its models cost, by name; a model that is not named costs nothing."""
    context_tokens: Count | None = Field(default=None, ge=1)
    """Context length of its models; longer prompts are shortened or refused here."""
    output_limit_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """The name of the token limit; `auto` learns it from a refusal."""
    replay_reasoning: Literal["auto", "always", "never"] = "auto"
    """Whether reasoning is given back; `auto` stops after a refusal."""
    response_format: Literal["auto", "json_schema", "json_object", "off"] = "auto"
    """How an output schema is sent; `auto` learns it from a refusal."""
    message_order: Literal["auto", "any", "strict", "no_system"] = "auto"
    """`strict`: one system message first, then user and assistant in turns; `no_system`
    has its text in the first question; `auto` learns it from a refusal."""

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
            valid = valid and parts.port != 0 and url.isprintable() and " " not in url
        except ValueError:
            valid, parts = False, urlsplit("")
        if not valid:
            raise ValueError(
                "not an http(s) URL without blanks; write it like http://host:11434/v1"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "must hold no login and no query;"
                " use llm.api_key (OPENAI_API_KEY) or llm.headers"
            )
        return url.rstrip("/")

    @field_validator("response_format", mode="before")
    @classmethod
    def _off_is_a_word(cls, form: object) -> object:
        return "off" if form is False else form  # as YAML 1.1 reads it

    @field_validator("proxy")
    @classmethod
    def _is_http_proxy(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None:
            check_proxy_url(proxy.get_secret_value())
        return proxy

    @model_validator(mode="after")
    def _parts_within_total(self) -> Self:
        for name in ("connect_timeout", "first_byte_timeout", "idle_timeout"):
            part: float = getattr(self, name)
            if part > self.total_timeout:
                raise ValueError(
                    f"{name} ({format_seconds(part)}) must not exceed total_timeout"
                    f" ({format_seconds(self.total_timeout)}); change one of them"
                )
        return self


class LLMSettings(EndpointSettings):
    """The endpoint that agents use by default, and others by name."""

    endpoints: dict[Identifier, EndpointSettings] = Field(default_factory=dict)
    """Other endpoints, by the name that an agent's `endpoint` gives."""

    loopback_only: bool = False
    """Refuse every endpoint that is not on this machine, as tests want it."""

    @model_validator(mode="after")
    def _stay_on_this_machine(self) -> Self:
        for name, endpoint in self.by_name.items():
            ways = [("is at", endpoint.base_url)]
            if endpoint.proxy is not None:
                ways.append(("has a proxy at", endpoint.proxy.get_secret_value()))
            for verb, url in ways:
                host = urlsplit(url).hostname or ""
                if self.loopback_only and not is_loopback(host):
                    raise ValueError(
                        f"endpoint {name!r} {verb} {host}, and loopback_only allows"
                        " this machine alone; use the double, or mark the test real_llm"
                    )
        return self

    @field_validator("endpoints")
    @classmethod
    def _default_is_taken(
        cls, endpoints: dict[str, EndpointSettings]
    ) -> dict[str, EndpointSettings]:
        if DEFAULT_ENDPOINT in endpoints:
            raise ValueError(
                f"{DEFAULT_ENDPOINT!r} names the endpoint that llm itself describes;"
                " use another name"
            )
        return endpoints

    @property
    def by_name(self) -> dict[str, EndpointSettings]:
        """Every endpoint, the default one first."""
        return {DEFAULT_ENDPOINT: self, **self.endpoints}
