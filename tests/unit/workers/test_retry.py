"""Whether an attempt is followed by another, and when."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from orchestrator.errors import StoreUnavailable
from orchestrator.task import RetryPolicy
from workers.agents.agent import AgentResult
from workers.errors import (
    AgentFailed,
    LLMUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from workers.retry import decide, describe

POLICY = RetryPolicy(max_attempts=3, backoff_seconds=2, max_backoff_seconds=5)


def test_a_retryable_error_is_tried_again_until_the_policy_ends_it() -> None:
    error = LLMUnavailable("down")
    assert decide(error, failed_attempts=0, policy=POLICY).again
    assert decide(error, failed_attempts=1, policy=POLICY).again
    assert not decide(error, failed_attempts=2, policy=POLICY).again


@pytest.mark.parametrize(
    "error",
    [
        QuotaExhausted("none left"),
        RequestRejected("no such model"),
        AgentFailed("no"),
        ValueError("bug"),
    ],
)
def test_what_another_attempt_cannot_help_is_not_tried_again(error: Exception) -> None:
    assert not decide(error, failed_attempts=0, policy=POLICY).again


def test_the_delay_doubles_with_jitter_and_is_capped() -> None:
    jitter = random.Random(1)  # noqa: S311
    delays = [
        decide(
            LLMUnavailable("down"),
            failed_attempts=failed,
            policy=RetryPolicy(
                max_attempts=9, backoff_seconds=2, max_backoff_seconds=5
            ),
            jitter=jitter,
        ).delay_seconds
        for failed in range(4)
    ]
    for delay, ceiling in zip(delays, (2, 4, 5, 5), strict=True):
        assert ceiling / 2 <= delay <= ceiling


def test_retry_after_is_never_undercut() -> None:
    error = RateLimited("slow down", retry_after_seconds=60)
    assert decide(error, failed_attempts=0, policy=POLICY).delay_seconds >= 60


def test_nobody_waits_for_more_than_a_day() -> None:
    error = RateLimited("slow down", retry_after_seconds=1e9)
    assert decide(error, failed_attempts=0, policy=POLICY).delay_seconds == 86_400


def test_a_store_that_is_away_is_retryable() -> None:
    assert decide(StoreUnavailable("away"), failed_attempts=0, policy=POLICY).again


def test_a_failure_is_plain_data_with_a_stable_code() -> None:
    failure = describe(
        LLMUnavailable("down", endpoint="http://x/v1", status=503), attempt=2
    )
    assert (failure.code, failure.attempt, failure.retryable) == (
        "llm_unavailable",
        2,
        True,
    )
    assert failure.details == {"endpoint": "http://x/v1", "status": 503}


def test_an_unforeseen_error_names_its_type_and_survives_odd_text() -> None:
    failure = describe(KeyError("\ud800" * 5000), attempt=1)
    assert failure.code == "agent_error"
    assert failure.details == {"type": "KeyError"}
    assert len(failure.message) <= 4000
    assert describe(KeyError("URL"), attempt=1).message == "KeyError: 'URL'"
    assert describe(ValueError(), attempt=1).message.startswith("ValueError was raised")


def test_a_refusal_of_pydantics_is_one_sentence_without_values() -> None:
    with pytest.raises(ValidationError) as refused:
        AgentResult.model_validate({"content": 5, "output": {"at": object()}})
    failure = describe(refused.value, attempt=1)
    assert failure.message == (
        "ValidationError: AgentResult: content: Input should be a valid string;"
        " output: at: not JSON (type object); send text, numbers, booleans, lists or"
        " objects"
    )


def test_a_code_that_the_policy_names_is_never_tried_again() -> None:
    policy = RetryPolicy(max_attempts=5, never=("rate_limited",))
    limited = decide(RateLimited("slow down"), failed_attempts=0, policy=policy)
    assert not limited.again
    assert decide(LLMUnavailable("down"), failed_attempts=0, policy=policy).again
