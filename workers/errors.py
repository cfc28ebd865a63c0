"""Errors of the workers room.

WorkerError
├── UnsupportedPool         the Celery pool cannot run agents
├── InvalidAgent            an agent or tool cannot be registered
├── InvalidEndpoint         the address or key of a model endpoint cannot be used
├── SoftTimeLimitReached    raised inside the run: wrap up now
├── AgentFailed             the agent ended without an answer
│   └── BudgetExceeded      another completion would pass a budget
├── GateClosed              the endpoint's gate is closed: come back later
│   └── UnreadableStep      another release recorded it: let that one go on
├── LLMError                (endpoint, status, first 2 kB of what came)
│   ├── LLMUnavailable      refused, reset, timed out, 5xx
│   ├── RateLimited         429 with or without a wait
│   ├── QuotaExhausted      the account has no credit left
│   ├── RequestRejected     400, 401, 403, 404, 413, 422
│   ├── ContextOverflow     the prompt does not fit the model's context
│   ├── MalformedCompletion what came is not a completion
│   ├── EmptyCompletion     neither text nor a tool call
│   ├── StreamTruncated     the stream ended before its finish
│   └── CompletionRefused   the model or a filter refused
└── ToolError               told to the model, never ends the run
    ├── UnknownTool
    ├── InvalidToolArguments
    ├── ToolFailed
    └── ToolTimeout
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import ValidationError

from orchestrator.store_limits import RESEND_SECONDS
from orchestrator.task import Usage


def text_of(error: BaseException) -> str:
    """Return an error's text, also of one that cannot be turned into any.

    Pydantic's is a page with the values in it; of that what was wrong is told.
    """
    try:
        if isinstance(error, ValidationError):
            return f"{error.title}: {'; '.join(_faults(error))}"
        return str(error)
    except Exception as exc:  # noqa: BLE001 - it is a stranger's
        return f"(no text: its __str__ raised {type(exc).__name__})"


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(
        include_url=False, include_context=False, include_input=False
    ):
        path = ".".join(map(str, fault["loc"]))
        said = fault["msg"].removeprefix("Value error, ")
        yield f"{path}: {said}" if path else said


class WorkerError(Exception):
    """Anything that running an agent refuses or reports."""


class UnsupportedPool(WorkerError):
    """The Celery pool cannot run agents."""


class InvalidAgent(WorkerError, ValueError):
    """An agent or tool cannot be registered."""


class InvalidEndpoint(WorkerError, ValueError):
    """The address or key of a model endpoint cannot be used."""


class SoftTimeLimitReached(WorkerError):
    """The soft limit passed: the agent should answer with what it has."""


class AgentFailed(WorkerError):
    """The agent ended without an answer; `code` is stable."""

    def __init__(self, message: str, *, code: str = "agent_failed") -> None:
        self.code = code
        super().__init__(message)


class BudgetExceeded(AgentFailed):
    """Another completion would pass the budget of the task, agent or tenant."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="budget_exceeded")


class GateClosed(WorkerError):
    """The run waits for its endpoint without its slot; no attempt is counted.

    Let it pass: the executor gives the task back and it continues after `seconds`.
    """

    code: ClassVar[str] = "gate_closed"

    def __init__(self, message: str, *, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


class UnreadableStep(GateClosed):
    """The journal holds a step that this release cannot read; the run is given back."""

    code = "unreadable_step"

    def __init__(self) -> None:
        super().__init__(
            "another release, or something else, recorded a step that the worker which"
            " was asked cannot read; workers of that release go on with it",
            seconds=RESEND_SECONDS,
        )


class LLMError(WorkerError):
    """A completion was not had. `retryable` says whether asking again could help."""

    code: ClassVar[str] = "llm_error"
    retryable: ClassVar[bool] = False
    was_asked: bool = True
    """False when the gate before the endpoint gave up and nothing was sent."""
    was_sent: bool = True
    """False when no connection stood, so that nobody can have been paid."""
    retry_after_seconds: float | None = None
    """How long the endpoint asks to wait, where it says so."""
    usage: Usage | None = None
    """What it counted for an answer that cannot be used, where it did."""

    def __init__(
        self,
        message: str,
        *,
        endpoint: str = "",
        status: int | None = None,
        body: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.status = status
        self.body = body[:2048]
        super().__init__(message)


class LLMUnavailable(LLMError):
    """The endpoint refused, reset, timed out or answered 5xx."""

    code = "llm_unavailable"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        endpoint: str = "",
        status: int | None = None,
        body: str = "",
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message, endpoint=endpoint, status=status, body=body)


class RateLimited(LLMError):
    """The endpoint asks to wait; `retry_after_seconds` is None when it does not say."""

    code = "rate_limited"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        endpoint: str = "",
        status: int | None = 429,
        body: str = "",
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message, endpoint=endpoint, status=status, body=body)


class QuotaExhausted(LLMError):
    """The account behind the key has no credit left."""

    code = "quota_exhausted"


class RequestRejected(LLMError):
    """The endpoint will not take this request: key, model or parameters."""

    code = "request_rejected"


class ContextOverflow(LLMError):
    """The prompt does not fit the model's context."""

    code = "context_overflow"

    def __init__(
        self,
        message: str,
        *,
        prompt_tokens: int | None = None,
        context_tokens: int | None = None,
        endpoint: str = "",
        status: int | None = None,
        body: str = "",
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens
        super().__init__(message, endpoint=endpoint, status=status, body=body)


class MalformedCompletion(LLMError):
    """What came is not a completion."""

    code = "malformed_completion"
    retryable = True


class EmptyCompletion(LLMError):
    """The model gave neither text nor a tool call."""

    code = "empty_completion"
    retryable = True


class StreamTruncated(LLMError):
    """The stream ended before its finish."""

    code = "stream_truncated"
    retryable = True


class CompletionRefused(LLMError):
    """The model or a content filter refused to answer."""

    code = "completion_refused"


class ToolError(WorkerError):
    """A tool call did not succeed; the text goes to the model."""

    code: ClassVar[str] = "tool_error"


class UnknownTool(ToolError):
    """The agent has no tool of this name."""

    code = "unknown_tool"


class InvalidToolArguments(ToolError):
    """The arguments do not fit the tool's schema."""

    code = "invalid_tool_arguments"


class ToolFailed(ToolError):
    """The tool raised."""

    code = "tool_failed"


class ToolTimeout(ToolError):
    """The tool did not end within its timeout."""

    code = "tool_timeout"
