"""Finished steps as the journal keeps them: pure functions.

Their parts are values that were checked when they were made, so most are not again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple, TypeVar

from pydantic import JsonValue, ValidationError

from conversations.message import Message
from conversations.trusted import trusted, whole
from orchestrator.journal import SUMMARY_KEY, Step, StepKind, StepStart
from orchestrator.task import TaskStats, Usage
from workers.agents.agent import ToolResult
from workers.errors import UnreadableStep
from workers.llm.metered import MeteredProvider
from workers.llm.provider import Completion

_NOTHING: Final = Usage()
_Value = TypeVar("_Value")


class Taken(NamedTuple):
    """What a run keeps of a step that it has recorded itself."""

    kind: StepKind
    usage: Usage
    outcome: JsonValue = None
    """Of a tool call alone: a model may make the same one again."""


def read_outcome(read: Callable[[JsonValue], _Value], outcome: JsonValue) -> _Value:
    """Return what an earlier attempt has recorded.

    Raises:
        UnreadableStep: a worker of another release has, in words of its own.
    """
    try:
        return read(outcome)
    except ValidationError:  # which repeats what the step holds
        raise UnreadableStep from None


def completion_start(key: str, *, attempt: int) -> StepStart:
    """Return the mark of a completion that begins."""
    return whole(
        StepStart,
        {
            "key": key,
            "kind": StepKind.COMPLETION,
            "facts": {},
            "attempt": attempt,
            "started_at": None,
        },
    )


def completion_step(
    key: str,
    completion: Completion,
    *,
    seconds: float,
    attempt: int,
    shown_as: str | None = None,
) -> Step:
    """Return the step of a completion."""
    return trusted(
        Step,
        key=key,
        kind=StepKind.COMPLETION,
        name=completion.model,
        outcome=completion.model_dump(mode="json", exclude_defaults=True),
        said=completion.message.content or None,
        shown_as=shown_as,
        usage=completion.usage or Usage(),
        cost_micros=completion.cost_micros,
        waited_seconds=completion.gate_wait_seconds,
        seconds=seconds,
        attempt=attempt,
    )


def summary_step(
    completion: Completion, summary: Message | None, *, seconds: float, attempt: int
) -> Step:
    """Return the step of a summary; it is no part of what the run says."""
    step = completion_step(SUMMARY_KEY, completion, seconds=seconds, attempt=attempt)
    outcome = summary and summary.model_dump(mode="json", exclude_defaults=True)
    return step.model_copy(update={"outcome": outcome, "said": None})


def tool_step(
    key: str,
    name: str,
    result: ToolResult,
    *,
    llm: MeteredProvider,
    seconds: float,
    attempt: int,
) -> Step:
    """Return the step of a tool call; `llm` is what the tool has asked."""
    return trusted(
        Step,
        key=key,
        kind=StepKind.TOOL_CALL,
        name=name,
        outcome=result.model_dump(mode="json", exclude_defaults=True),
        usage=llm.usage,
        cost_micros=llm.cost_micros,
        waited_seconds=llm.waited_seconds,
        error=result.error,
        seconds=seconds,
        attempt=attempt,
    )


def stats_of(
    steps: Collection[Step | Taken],
    *,
    running_seconds: float,
    attempts: int,
    maybe_paid: int,
) -> TaskStats:
    """Sum what steps took."""
    kinds = [step.kind for step in steps]
    return trusted(
        TaskStats,
        usage=Usage.sum_of([step.usage for step in steps]) if kinds else _NOTHING,
        completions=kinds.count(StepKind.COMPLETION),
        tool_calls=kinds.count(StepKind.TOOL_CALL),
        running_seconds=running_seconds,
        attempts=attempts,
        maybe_paid=maybe_paid,
    )


def custom_step(
    key: str, name: str, outcome: JsonValue, *, attempt: int, seconds: float = 0.0
) -> Step:
    """Return a step of the agent's own, or of the run itself."""
    return Step(
        key=key,
        kind=StepKind.CUSTOM,
        name=name,
        outcome=outcome,
        seconds=seconds,
        attempt=attempt,
    )
