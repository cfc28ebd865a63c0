"""What can be set, with its default, its limits and the rules between settings.

Reading is `settings_sources`; this module holds the values. Constructing `Settings`
reads nothing: only `load_settings` looks at the environment and at files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from conversations.json_value import Identifier, Text
from orchestrator.agent_config import AgentConfig, output_problem
from orchestrator.agent_kinds import unknown_kind
from orchestrator.budget_limits import SpendingLimits
from orchestrator.duration import Seconds, format_seconds
from orchestrator.errors import InvalidSettings
from orchestrator.exposed_secrets import SECRET_KEYS, exposed_secrets
from orchestrator.http_settings import HttpSettings, plain_http
from orchestrator.llm_settings import LLMSettings
from orchestrator.names import nearest_names
from orchestrator.services_settings import ServicesSettings
from orchestrator.settings_names import PREFIX
from orchestrator.settings_problems import SeveralProblems, describe
from orchestrator.settings_section import Count, Section
from orchestrator.settings_sources import Origin, read_layers
from orchestrator.shipped_agents import shipped_agents
from orchestrator.storage_settings import StorageSettings
from orchestrator.unpriced import unpriced
from orchestrator.webhook_secret import signing_key

_MIB = 1024 * 1024


class RetentionSettings(Section):
    """How long things are kept after their end."""

    result_ttl: Seconds = 7 * 86_400.0
    """Ended tasks with their results and events."""
    delta_ttl: Seconds = 3600.0
    """The pieces that a text came in, in the events; the whole text stays."""
    idempotency_ttl: Seconds = 86_400.0
    """How long after its end an idempotency key returns its task, if it is kept."""

    @property
    def warnings(self) -> Iterator[str]:
        """What of these settings does not go together."""
        if self.idempotency_ttl > self.result_ttl:
            yield (
                f"retention.idempotency_ttl ({format_seconds(self.idempotency_ttl)}) is"
                f" longer than result_ttl ({format_seconds(self.result_ttl)}), with"
                " which a task goes: a later repeat runs again; change one of them"
            )


class LimitsSettings(Section):
    """Sizes, in bytes of JSON, that are refused before any I/O."""

    max_input_bytes: Count = Field(default=_MIB, ge=1)
    """A task's input, parameters, context and metadata together."""
    max_message_bytes: Count = Field(default=256 * 1024, ge=1024)
    """One message of a conversation."""
    max_result_bytes: Count = Field(default=4 * _MIB, ge=1)
    """A task's result."""


class WebhookSettings(Section):
    """Where ends of tasks may be told."""

    allowed: tuple[Text, ...] = ()
    """URLs below which a task's webhook must lie; none allows none."""
    secret: SecretStr | None = None
    """Signs each delivery; without it nothing is sent."""
    timeout: Seconds = 10.0
    """Longest duration of one delivery."""
    max_attempts: Count = Field(default=10, ge=1, le=1000)
    """Deliveries tried, first 5 s apart, at most an hour."""

    @field_validator("allowed")
    @classmethod
    def _are_addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(plain_http, urls))

    @field_validator("secret")
    @classmethod
    def _secret_is_a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            signing_key(secret.get_secret_value())
        return secret


class WorkerSettings(Section):
    """How worker processes prove that they live."""

    lease: Seconds = 10.0
    """A run whose lease was not renewed for so long is taken over."""
    heartbeat: Seconds = 3.0
    """How often leases are renewed; at most half of the lease."""
    max_crashes: Count = Field(default=3, ge=1)
    """A task that took so many workers down fails."""
    shutdown_grace: Seconds = 25.0
    """Seconds that runs get to reach a step boundary on SIGTERM."""
    loop_stall_limit: Seconds = 30.0
    """When code has blocked the event loop for so long, its process's runs move on."""
    store_patience: Seconds = 5.0
    """How long a worker that starts waits for a store that is out of reach or loads."""

    @model_validator(mode="after")
    def _lease_outlives_a_missed_heartbeat(self) -> Self:
        if self.heartbeat * 2 > self.lease:
            raise ValueError(
                f"heartbeat ({format_seconds(self.heartbeat)}) must be at most half of"
                f" lease ({format_seconds(self.lease)}); raise lease or lower heartbeat"
            )
        return self


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        env_parse_none_str="null",
        case_sensitive=True,  # of keys in the file; variables may be in any case
    )

    services: ServicesSettings = ServicesSettings()
    """The two services; each can be switched off."""
    llm: LLMSettings = LLMSettings()
    """The OpenAI-compatible endpoints."""
    storage: StorageSettings = StorageSettings()
    """Where records live and where the doorbell rings."""
    agents: dict[str, AgentConfig] = Field(default_factory=shipped_agents)
    """The agents by name; setting any replaces the shipped three."""
    budgets: dict[Identifier, SpendingLimits] = Field(default_factory=dict)
    """What each tenant may spend in a day; one that is not named is not bounded."""
    retention: RetentionSettings = RetentionSettings()
    """How long things are kept after their end."""
    limits: LimitsSettings = LimitsSettings()
    """Sizes, in bytes of JSON, that are refused before any I/O."""
    webhooks: WebhookSettings = WebhookSettings()
    """Where ends of tasks may be told."""
    worker: WorkerSettings = WorkerSettings()
    """How worker processes prove that they live."""
    http: HttpSettings = HttpSettings()
    """The HTTP service."""
    tenant: Identifier = "default"
    """Whose tasks and conversations these are, unless a call names another tenant."""

    _origin: Origin = PrivateAttr(default=Origin())

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        **_others: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Construction takes arguments alone; `load_settings` reads the rest."""
        return (init_settings,)

    @field_validator("agents", mode="before")
    @classmethod
    def _fill_in_names(cls, agents: object) -> object:
        if agents is None:
            return shipped_agents()
        if not isinstance(agents, dict):
            return agents
        return {name: _named(name, agent) for name, agent in agents.items()}

    @model_validator(mode="after")
    def _agents_fit_the_rest(self) -> Self:
        problems = [
            f"agents.{name}: {problem}"
            for name, agent in self.agents.items()
            for problem in self._problems_of(agent)
        ]
        if problems:
            raise SeveralProblems(problems)
        return self

    def _problems_of(self, agent: AgentConfig) -> Iterator[str]:
        problem = unknown_kind(agent.kind)
        if problem is not None:
            yield problem
        problem = output_problem(agent)
        if problem is not None:
            yield problem
        manager = self.services.agent_manager
        soft = agent.soft_time_limit_seconds or manager.task_timeout
        hard = agent.time_limit_seconds or soft + manager.time_limit_grace
        if soft > hard:
            yield (
                f"its soft limit ({format_seconds(soft)}) must not"
                f" exceed its hard limit ({format_seconds(hard)});"
                " set soft_time_limit_seconds at most at time_limit_seconds"
            )
        known = self.llm.by_name
        for chosen in (agent.endpoint, *[other.endpoint for other in agent.fallback]):
            if chosen is not None and chosen not in known:
                nearest = nearest_names(chosen, known) or sorted(known)
                yield (
                    f"endpoint {chosen!r} is not among"
                    f" llm.endpoints; did you mean {nearest[0]}?"
                )

    def source_of(self, path: str | tuple[str, ...]) -> str:
        """Say where the value at a path came from, such as `environment`.

        A path is dotted, or its keys, of which one may hold a dot.
        """
        keys = tuple(path.split(".")) if isinstance(path, str) else path
        return self._origin.source_of(keys)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but should be changed, one sentence each."""
        unpriced_models = unpriced(self.llm, self.agents, self.budgets)
        return (
            *exposed_secrets(self._origin.layers, self.llm.endpoints),
            *self._origin.doubts,
            *self._keys_alone(),
            *self.retention.warnings,
            *self.http.warnings,
            *unpriced_models,
        )

    def _keys_alone(self) -> Iterator[str]:
        """Find endpoints of which a secret alone is set, as of one that is misspelt."""
        set_of = {
            name: {key for layer in self._origin.layers for key in layer.keys_at(path)}
            for name in self.llm.endpoints
            for path in [("llm", "endpoints", name)]
        }
        alone = [name for name, keys in set_of.items() if keys and keys <= SECRET_KEYS]
        for name in alone:
            others = nearest_names(name, set(set_of) - set(alone))
            meant = f"; did you mean {others[0]}?" if others else "; set its base_url"
            yield (
                f"llm.endpoints.{name}: nothing but a secret is set of it, which would"
                f" go to {self.llm.endpoints[name].base_url}{meant}"
            )


def _named(name: object, agent: object) -> object:
    if agent is None:
        return {"name": name}
    if not isinstance(agent, dict):
        return agent
    if agent.get("name", name) != name:
        raise ValueError(f"agents.{name}: name must equal its key; leave name out")
    return {**agent, "name": name}


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors that complete it."""
    schema = Settings.model_json_schema()
    agent = schema["$defs"]["AgentConfig"]  # its name is the key that it stands under
    agent.pop("required")
    agent["properties"].pop("name")
    return schema


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings: arguments, environment, .env, secrets, file, defaults.

    Args:
        path: The file; None takes `CELERIAC_CONFIG`, else `celeriac.yaml` if present.
        **overrides: Sections as mappings, such as `llm={"model": "…"}`.

    Raises:
        InvalidSettings: with every problem that was found.
    """
    origin, problems = read_layers(Settings, path, overrides)
    try:
        settings = Settings(**origin.merged())
    except ValidationError as exc:
        raise InvalidSettings([*problems, *describe(Settings, exc)]) from None
    if problems:
        raise InvalidSettings(problems)
    settings._origin = origin
    return settings
