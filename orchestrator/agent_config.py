"""What an agent is, as configured, and what is known of it. Frozen values, no I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from conversations.json_value import JsonObject, Text, check_identifier
from orchestrator.budget_limits import AgentBudget
from orchestrator.duration import Seconds
from orchestrator.settings_section import Count
from orchestrator.task import DEFAULT_QUEUE, RetryPolicy

_FROZEN = ConfigDict(
    frozen=True,
    extra="forbid",
    use_attribute_docstrings=True,
    hide_input_in_errors=True,
)

AgentName = Annotated[str, AfterValidator(check_identifier)]
"""Letters, digits, `_` and `-`, 1 to 64."""


DEFAULT_FALLBACK_ON = (
    "llm_unavailable",
    "rate_limited",
    "quota_exhausted",
    "malformed_completion",
    "empty_completion",
    "stream_truncated",
)
"""Failures that another model may well not have."""


class ModelChoice(BaseModel):
    """A model of an endpoint, asked when others have failed."""

    model_config = _FROZEN

    endpoint: AgentName | None = None
    """One of `llm.endpoints`; None takes the endpoint that `llm` describes."""
    model: Text | None = None
    """The model; None takes that of the endpoint."""


MOST_OUTPUT_TOKENS: Final = 2**31
"""As at the OpenAI doors: gates and budgets count in numbers that Redis holds."""
MOST_STOPS: Final = 4
"""Stop sequences of a completion; as many as OpenAI takes."""
MOST_STOP_CHARACTERS: Final = 256
"""Of each: a stream holds so much back, as it may be the beginning of one."""


class AgentConfig(BaseModel):
    """How one agent works. Secrets never stand here: it is announced in Redis."""

    model_config = _FROZEN

    name: AgentName
    """What tasks call it."""
    version: Text = Field(default="1", min_length=1, max_length=64)
    """Changes when its answers would; part of the result cache's key."""
    description: Text = ""
    """One line for people who choose an agent."""
    kind: Text = "llm"
    """Which implementation to build: `llm`, `researcher`, or an entry point's name."""
    model: Text | None = None
    """The model; None takes that of its endpoint."""
    endpoint: AgentName | None = None
    """One of `llm.endpoints`; None takes the endpoint that `llm` describes."""
    fallback: tuple[ModelChoice, ...] = Field(default=(), max_length=8)
    """Tried in order when a completion fails for one of `fallback_on`."""
    fallback_on: tuple[Text, ...] = DEFAULT_FALLBACK_ON
    """Codes of the failures after which the next of `fallback` is asked."""
    instructions: Text = ""
    """The system prompt."""
    tools: tuple[Text, ...] = ()
    """Names of the tools that it may call; none by default."""
    parameters: JsonObject = Field(default_factory=dict)
    """Defaults for a task's parameters."""
    options: JsonObject = Field(default_factory=dict)
    """Settings of the implementation, such as a researcher's document roots."""
    budget: AgentBudget = AgentBudget()
    """What its tasks may spend."""
    queue: AgentName = DEFAULT_QUEUE
    """The Celery queue that its tasks go to."""
    max_turns: Count = Field(default=16, ge=1, le=1000)
    """Completions in one run at most, the closing one not counted."""
    max_tool_calls: Count = Field(default=128, ge=0, le=100_000)
    """Tool calls in one run at most."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sampling temperature; None leaves it to the endpoint."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling mass; None leaves it to the endpoint."""
    seed: Count | None = None
    """Sampling seed; None leaves it to the endpoint."""
    max_output_tokens: Count | None = Field(default=4096, ge=1)
    """Tokens of one completion at most; None sends no limit."""
    output_schema: JsonObject | None = None
    """JSON Schema (2020-12) of the answer; the result's `output` then holds data."""
    soft_time_limit_seconds: Seconds | None = None
    """Overrides `services.agent_manager.task_timeout` for its tasks."""
    time_limit_seconds: Seconds | None = None
    """Overrides soft limit + grace for its tasks."""
    retry: RetryPolicy = RetryPolicy()
    """When a failed attempt is followed by another."""


class AgentHealth(BaseModel):
    """How an agent has fared, over all workers."""

    model_config = _FROZEN

    served: bool = False
    """A live worker serves it now."""
    workers: int = Field(default=0, ge=0)
    """Live workers that serve it."""
    last_success_at: datetime | None = None
    """When a run last completed."""
    last_failure_at: datetime | None = None
    """When a run last failed or timed out."""
    last_failure_code: Text | None = None
    """The code of that failure."""
    successes: int = Field(default=0, ge=0)
    """Runs completed."""
    failures: int = Field(default=0, ge=0)
    """Runs failed or timed out."""

    @property
    def failure_rate(self) -> float:
        """Share of the runs that failed, 0 to 1; 0 before the first."""
        runs = self.successes + self.failures
        return self.failures / runs if runs else 0.0


class AgentInfo(BaseModel):
    """An agent as any process can see it."""

    model_config = _FROZEN

    config: AgentConfig
    """As last announced, or as in this process's settings."""
    health: AgentHealth = AgentHealth()
    """How it fares."""

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.config.name


class WorkerInfo(BaseModel):
    """A live worker process and what it serves."""

    model_config = _FROZEN

    id: Text
    """`host:pid:birth`, unique to the process."""
    hostname: Text
    """The Celery node name."""
    pid: int
    """Its process id on its host."""
    agents: tuple[AgentConfig, ...] = ()
    """The agents that it serves."""
    queues: tuple[Text, ...] = ()
    """The Celery queues that it takes from."""
    slots: int = Field(default=1, ge=0)
    """Runs that it holds at once."""
    running: int = Field(default=0, ge=0)
    """Runs that it holds now."""
    draining: bool = False
    """It takes no more work."""
    loop_lag_seconds: float = Field(default=0.0, ge=0)
    """Longest wait for a turn on its runs' event loop since the last announcement."""
    loop_blocked: int = Field(default=0, ge=0)
    """How often one run has blocked that loop for over half a second."""
    release: Text = ""
    """Celeriac's version there."""
    seen_at: datetime | None = None
    """Its last announcement, by the store's clock."""

    @property
    def all_queues(self) -> tuple[str, ...]:
        """Its queues, or where it names none those of its agents."""
        named = self.queues or tuple(agent.queue for agent in self.agents)
        return tuple(sorted(set(named)))

    @property
    def served(self) -> tuple[str, ...]:
        """The agents whose tasks reach it; a `-Q` may leave out their queues."""
        queues = self.all_queues
        return tuple(agent.name for agent in self.agents if agent.queue in queues)


def output_problem(config: AgentConfig) -> str | None:
    """Return what is wrong with how much an agent may answer at once.

    It is no bound of the field: what an older worker has announced stays readable.
    """
    asked = config.max_output_tokens
    if asked is None or asked <= MOST_OUTPUT_TOKENS:
        return None
    return (
        f"max_output_tokens {asked} exceeds {MOST_OUTPUT_TOKENS}; set what its model"
        " can write, or null to send no limit"
    )
