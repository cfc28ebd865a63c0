"""The task: what was asked, where it stands, how it ended. Frozen values, no I/O.

Owns the one table of allowed transitions; stores enforce it by compare-and-set.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from secrets import token_hex
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from conversations.json_value import Identifier, Json, JsonObject, Text
from conversations.trusted import trusted
from orchestrator.budget_limits import TaskBudget

DEFAULT_QUEUE: Final = "celeriac"
MOST_AFTER: Final = 10_000
"""Tasks that one may wait for."""
DEFAULT_PRIORITY: Final = 4
"""Middle of 0 to 9; 9 is most urgent."""


class TaskStatus(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_terminal(self) -> bool:
        """True once the task has ended; it never changes after that."""
        return not TRANSITIONS[self]


TRANSITIONS: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    TaskStatus.PENDING: frozenset(
        {TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.CANCELLED}
    ),
    TaskStatus.RUNNING: frozenset(
        {
            TaskStatus.PENDING,
            TaskStatus.WAITING,
            TaskStatus.COMPLETED,
            TaskStatus.FAILED,
            TaskStatus.CANCELLED,
            TaskStatus.TIMED_OUT,
        }
    ),
    TaskStatus.WAITING: frozenset(
        {TaskStatus.PENDING, TaskStatus.FAILED, TaskStatus.CANCELLED}
    ),
    TaskStatus.COMPLETED: frozenset(),
    TaskStatus.FAILED: frozenset(),
    TaskStatus.CANCELLED: frozenset(),
    TaskStatus.TIMED_OUT: frozenset(),
}

_FROZEN = ConfigDict(
    frozen=True,
    extra="forbid",
    use_attribute_docstrings=True,
    hide_input_in_errors=True,
)


class Usage(BaseModel):
    """Tokens as the endpoint counted them."""

    model_config = _FROZEN

    input_tokens: int = Field(default=0, ge=0)
    """Tokens of the prompts."""
    output_tokens: int = Field(default=0, ge=0)
    """Tokens of the answers, reasoning included."""
    cached_tokens: int = Field(default=0, ge=0)
    """Input tokens that the endpoint took from its prompt cache."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """Output tokens spent on reasoning."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @model_validator(mode="before")
    @classmethod
    def _drop_computed(cls, data: object) -> object:
        if isinstance(data, dict) and "total_tokens" in data:
            return {key: item for key, item in data.items() if key != "total_tokens"}
        return data

    def told(self) -> JsonObject:
        """Return it as JSON, at a third of what `model_dump` costs."""
        return {**self.__dict__, "total_tokens": self.total_tokens}

    def __add__(self, other: Usage) -> Usage:
        return Usage.sum_of([self, other])

    @classmethod
    def sum_of(cls, usages: Collection[Usage]) -> Usage:
        """Return what several took together."""
        return trusted(
            Usage,
            input_tokens=sum([usage.input_tokens for usage in usages]),
            output_tokens=sum([usage.output_tokens for usage in usages]),
            cached_tokens=sum([usage.cached_tokens for usage in usages]),
            reasoning_tokens=sum([usage.reasoning_tokens for usage in usages]),
        )


class TaskStats(BaseModel):
    """What a run took, summed over its attempts."""

    model_config = _FROZEN

    usage: Usage = Usage()
    """Tokens of all recorded completions."""
    completions: int = Field(default=0, ge=0)
    """Model completions recorded."""
    tool_calls: int = Field(default=0, ge=0)
    """Tool calls recorded."""
    running_seconds: float = Field(default=0.0, ge=0)
    """Seconds in `running`, over all attempts."""
    attempts: int = Field(default=0, ge=0)
    """Claims of the task."""
    maybe_paid: int = Field(default=0, ge=0)
    """Completions asked for again because a crash hid whether they were answered."""


class TaskFailure(BaseModel):
    """Why a task failed, as plain data."""

    model_config = _FROZEN

    code: Text = Field(min_length=1, max_length=64)
    """Stable, lower case with underscores, for programs."""
    message: Text = Field(max_length=4000)
    """One sentence with the remedy, for people."""
    attempt: int = Field(default=0, ge=0)
    """The attempt that failed."""
    retryable: bool = False
    """Whether another attempt could help."""
    details: JsonObject = Field(default_factory=dict)
    """Facts, such as the endpoint's status; never a secret."""


class StopReason(StrEnum):
    """Why a run stopped with an answer."""

    END_TURN = "end_turn"
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    SOFT_TIME_LIMIT = "soft_time_limit"
    BUDGET = "budget"
    CONTENT_FILTER = "content_filter"
    CLIENT_TOOL_CALLS = "client_tool_calls"


class TaskResult(BaseModel):
    """The stored answer of a completed task."""

    model_config = _FROZEN

    task_id: Identifier
    """The task it answers."""
    status: TaskStatus = TaskStatus.COMPLETED
    """The task's terminal status."""
    content: Text = ""
    """The answer as text."""
    output: Json = None
    """The answer as data, where the agent gives one."""
    stats: TaskStats = TaskStats()
    """Tokens, steps and time."""
    stop_reason: StopReason = StopReason.END_TURN
    """Why the run stopped."""
    partial: bool = False
    """True when a limit ended the run before the agent was done."""
    executed_at: datetime | None = None
    """When the run ended, by the store's clock."""


class RetryPolicy(BaseModel):
    """When a failed attempt is followed by another."""

    model_config = _FROZEN

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Attempts that may fail before the task does."""
    backoff_seconds: float = Field(default=1.0, ge=0, le=86_400)
    """Wait before the second attempt; doubles with each further one, with jitter."""
    max_backoff_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """Longest wait between two attempts."""
    never: tuple[Text, ...] = Field(default=(), max_length=64)
    """Failure codes after which there is no other attempt, such as `rate_limited`."""


class AwaitedCall(BaseModel):
    """A call that a waiting task wants decided by a person."""

    model_config = _FROZEN

    call_id: Text = Field(min_length=1, max_length=512)
    """Names the call within the task, for `resolve`."""
    reason: Literal["unknown_outcome", "budget_spent", "approval"] = "unknown_outcome"
    """Why a decision is needed."""
    tool: Text
    """The tool that was called; `budget` where another completion is wanted."""
    arguments: JsonObject = Field(default_factory=dict)
    """What it was called with."""
    begun_at: datetime | None = None
    """When the call began whose outcome is unknown."""
    timeout_seconds: float | None = Field(default=None, gt=0)
    """How long a decision may take before the call is refused; None waits for ever."""
    expires_at: datetime | None = None
    """When that is, by the store's clock; None before it waits."""


WhenBusy = Literal["enqueue", "reject", "interrupt", "rollback", "steer"]
"""What a task does on a conversation that has unfinished ones.

Wait for them; be refused; cancel them and keep what they have said, marked as closed;
cancel them and remove them; or join the running one, which gets the message before its
next completion.
"""


def new_task_id() -> str:
    """Return an id that no other task has."""
    return f"task-{token_hex(16)}"


class Task(BaseModel):
    """One stored request to run an agent, with its state.

    The first block is given by whoever submits and never changes; the second is
    written by the store alone.
    """

    model_config = _FROZEN

    id: Identifier = Field(default_factory=new_task_id)
    """Names the task within its tenant."""
    tenant: Identifier = "default"
    """Whose it is; another tenant's id is not found."""
    agent_name: Identifier
    """The agent that runs it."""
    agent_version: Text | None = Field(default=None, max_length=64)
    """The agent's version at acceptance."""
    input: JsonObject = Field(default_factory=dict)
    """What the agent works on."""
    parameters: JsonObject = Field(default_factory=dict)
    """How the agent works: model, temperature and the like."""
    context: JsonObject = Field(default_factory=dict)
    """Facts about the caller that tools may use and no model sees unasked."""
    conversation_id: Identifier | None = None
    """The conversation that it continues."""
    when_busy: WhenBusy = "enqueue"
    """What to do when the conversation has an unfinished task."""
    queue: Identifier = DEFAULT_QUEUE
    """The Celery queue that serves the agent."""
    priority: int = Field(default=DEFAULT_PRIORITY, ge=0, le=9, strict=True)
    """0 to 9; 9 is most urgent."""
    idempotency_key: Text | None = Field(default=None, min_length=1, max_length=255)
    """A second submit with the same key and request returns this task."""
    not_before: datetime | None = None
    """Earliest start (aware)."""
    after: tuple[Identifier, ...] = Field(default=(), max_length=MOST_AFTER)
    """Tasks of the tenant that must end first; their answers are its `results`."""
    after_failure: Literal["fail", "run"] = "fail"
    """What it does when one of them ended without an answer."""
    expires_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Longest wait for the first claim, in seconds from acceptance or `not_before`."""
    deadline_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Longest life from acceptance to the end, in seconds."""
    soft_time_limit_seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False
    )
    """Seconds in `running` after which the agent must wrap up."""
    time_limit_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds in `running` after which the run is ended."""
    retry: RetryPolicy | None = None
    """Overrides the agent's retry policy."""
    budget: TaskBudget | None = None
    """What it may spend, within its agent's budget."""
    cache_ttl_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Share the answer with equal requests for so long; None shares nothing."""
    tags: tuple[Text, ...] = Field(default=(), max_length=32)
    """Words to filter by."""
    metadata: JsonObject = Field(default_factory=dict)
    """The submitter's facts about the task; no agent sees them."""
    webhook: Text | None = Field(default=None, max_length=2048)
    """Where its end is told."""
    traceparent: Text | None = Field(default=None, max_length=64)
    """The W3C trace context of its submit; no part of the request."""

    status: TaskStatus = TaskStatus.PENDING
    """Where it stands."""
    attempt: int = Field(default=0, ge=0)
    """Claims so far; the running claim's number is its fence."""
    failed_attempts: int = Field(default=0, ge=0)
    """Attempts that ended in a retryable error."""
    crashes: int = Field(default=0, ge=0)
    """Attempts that are taken to have brought their worker down."""
    suspect: bool = False
    """Its worker vanished under it and it has not recorded a step since."""
    worker: Text | None = None
    """The worker that holds or last held it."""
    created_at: datetime | None = None
    """When it was accepted, by the store's clock; None before that."""
    due_at: datetime | None = None
    """While pending: when it may start."""
    started_at: datetime | None = None
    """When it was first claimed."""
    finished_at: datetime | None = None
    """When it ended."""
    cancel_requested_at: datetime | None = None
    """When a cancel was asked for."""
    running_seconds: float = Field(default=0.0, ge=0)
    """Seconds in `running`, over the attempts that have ended."""
    pending_reason: Text | None = None
    """While pending or waiting: why it does not run."""
    awaiting: tuple[AwaitedCall, ...] = ()
    """While waiting: the calls that `resolve` must decide on."""
    unknown_outcomes: int = Field(default=0, ge=0)
    """Calls whose outcome a crash hid so that a person had to decide."""
    maybe_paid: int = Field(default=0, ge=0)
    """Completions asked for again because a crash hid whether they were answered."""
    webhook_attempts: int = Field(default=0, ge=0)
    """How often its end was told."""
    webhook_delivered_at: datetime | None = None
    """When the webhook's receiver took it."""
    webhook_error: Text | None = None
    """Why the last delivery failed."""
    result: TaskResult | None = None
    """The answer, once completed (partial work, once cancelled)."""
    failure: TaskFailure | None = None
    """Why it failed or timed out, or the last attempt's error while it is retried."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Task:
        self.require_consistency()
        return self

    def require_consistency(self) -> None:
        """Check that the fields fit each other.

        Raises:
            ValueError: says which do not.
        """
        soft, hard = self.soft_time_limit_seconds, self.time_limit_seconds
        if soft is not None and hard is not None and soft > hard:
            raise ValueError(
                f"soft_time_limit ({soft} s) must not exceed time_limit ({hard} s)"
            )
        if self.id in self.after:
            raise ValueError("after must not name the task itself")
        if self.not_before is not None and self.not_before.tzinfo is None:
            raise ValueError("not_before must carry a time zone")
        if self.cache_ttl_seconds is not None and self.conversation_id is not None:
            raise ValueError(
                "cache_ttl cannot be used with conversation_id:"
                " a turn depends on its history; leave one out"
            )
