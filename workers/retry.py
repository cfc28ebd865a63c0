"""Whether a failed attempt is followed by another, and when: pure functions."""

from __future__ import annotations

import random
from typing import NamedTuple

from conversations.errors import (
    ContextTooLong,
    ConversationStoreUnavailable,
    ConversationUnreadable,
    RedactionFailed,
)
from orchestrator.errors import InvalidInput, StoreUnavailable
from orchestrator.task import RetryPolicy, TaskFailure
from workers.errors import (
    AgentFailed,
    InvalidAgent,
    LLMError,
    SoftTimeLimitReached,
    text_of,
)

LONGEST_WAIT_SECONDS = 86_400.0
"""An endpoint that asks for more than a day has sent something else."""


class RetryDecision(NamedTuple):
    """What follows a failed attempt."""

    again: bool
    delay_seconds: float = 0.0


def decide(
    error: BaseException,
    *,
    failed_attempts: int,
    policy: RetryPolicy,
    jitter: random.Random | None = None,
) -> RetryDecision:
    """Decide on another attempt after `failed_attempts` earlier failures.

    The delay doubles with each failure, is drawn from the upper half of its range
    (jitter) and never undercuts the endpoint's `Retry-After`.
    """
    code = describe(error, attempt=0).code
    last = failed_attempts + 1 >= policy.max_attempts
    if not is_retryable(error) or last or code in policy.never:
        return RetryDecision(again=False)
    ceiling = min(
        policy.max_backoff_seconds, policy.backoff_seconds * 2.0**failed_attempts
    )
    draw = (jitter or random.SystemRandom()).uniform(0.5, 1.0)
    delay = ceiling * draw
    if isinstance(error, LLMError) and error.retry_after_seconds is not None:
        delay = max(delay, min(error.retry_after_seconds, LONGEST_WAIT_SECONDS))
    return RetryDecision(again=True, delay_seconds=delay)


def is_retryable(error: BaseException) -> bool:
    """Whether the same attempt could succeed later."""
    if isinstance(error, LLMError):
        return error.retryable
    if isinstance(error, ConversationUnreadable):
        return False
    return isinstance(error, StoreUnavailable | ConversationStoreUnavailable)


def describe(error: BaseException, *, attempt: int) -> TaskFailure:
    """Turn an error into the plain value that is stored."""
    details: dict[str, str | int | float | bool | None] = {}
    if isinstance(error, LLMError):
        code = error.code
        details = {"endpoint": error.endpoint, "status": error.status}
    elif isinstance(error, AgentFailed):
        code = error.code[:64]
    elif isinstance(error, SoftTimeLimitReached):
        code = "soft_time_limit"
    elif isinstance(error, InvalidAgent):
        code = "invalid_agent"
    elif isinstance(error, ContextTooLong | ConversationUnreadable | RedactionFailed):
        code = error.code
    elif isinstance(error, StoreUnavailable | ConversationStoreUnavailable):
        code = "store_unavailable"
    elif isinstance(error, InvalidInput):
        code = "invalid_input"
    else:
        code = "agent_error"
        details = {"type": type(error).__name__}
    message = _message(error, code)
    return TaskFailure(
        code=code,
        message=message[:4000].encode("utf-8", "replace").decode("utf-8"),
        attempt=attempt,
        retryable=is_retryable(error),
        details=dict(details),
    )


def _message(error: BaseException, code: str) -> str:
    name, text = type(error).__name__, text_of(error)
    if not text:
        return f"{name} was raised without a message"
    # What nobody foresaw may say little by itself: a KeyError's text is the key alone.
    return f"{name}: {text}" if code == "agent_error" else text
