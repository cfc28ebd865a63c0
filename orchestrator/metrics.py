"""What is counted of a tenant's tasks: the fields of its counters and what they mean.

The stores move the counters with their transitions (lua/counters.lua says which), so a
repeated call counts nothing twice. Knows no store and no format of exposition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from orchestrator.journal import Step, StepKind
from orchestrator.task import TaskFailure

BUCKETS_SECONDS: Final = (
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
)
"""Upper bounds: from the wait in an idle queue to an hour of agents' work."""
BUCKETS_MS: Final = tuple(round(bound * 1000) for bound in BUCKETS_SECONDS)
DROPPED: Final = "dropped"
"""Counts that found no room."""
IN_TOOLS: Final = "(in tools)"
"""Stands for the models that tools ask, which may be several in one call."""
_LONGEST_NAME: Final = 100
"""Of a model or tool, as a label."""
_TOOL_UNKNOWN: Final = "unknown_tool"
"""The code of a call of a tool that there is not; its name is the model's invention."""

Count = tuple[str, int]
"""A counter's field and what is added to it."""


class Times(NamedTuple):
    """How long something took: how often within each bound, and the sum."""

    counts: tuple[int, ...]
    """One for each bound, and one for what was longer."""
    seconds: float


def time_counts(name: str, label: str, seconds: float) -> list[Count]:
    """The counts of one duration."""
    milliseconds = max(0, round(seconds * 1000))
    place = bisect_left(BUCKETS_MS, milliseconds)
    return [(f"{name} {place} {label}", 1), (f"{name} sum {label}", milliseconds)]


def step_counts(step: Step) -> list[Count]:
    """What a finished step adds to the counters."""
    label = step.name[:_LONGEST_NAME]
    if step.kind is StepKind.COMPLETION:
        return [
            *time_counts("completion", label, step.seconds),
            *_model_counts(step, label),
        ]
    if step.kind is not StepKind.TOOL_CALL:
        return []
    if step.error == _TOOL_UNKNOWN:
        label = "?"
    outcome = step.error or "ok"
    counts = time_counts(f"call {outcome}", label, step.seconds)
    return [*counts, *_model_counts(step, IN_TOOLS)]


def release_cause(delay_seconds: float, failure: TaskFailure | None) -> str:
    """Why an attempt ended without its task, as it is counted."""
    if failure is not None:
        return "failure"
    return "wait" if delay_seconds > 0 else "hand_over"


def _model_counts(step: Step, label: str) -> Iterable[Count]:
    """Tokens, money and waits at the gate."""
    usage = step.usage
    amounts = (
        ("tokens input", usage.input_tokens),
        ("tokens output", usage.output_tokens),
        ("tokens cached_input", usage.cached_tokens),
        ("tokens reasoning", usage.reasoning_tokens),
        ("cost", step.cost_micros),
        ("gate_ms", round(step.waited_seconds * 1000)),
    )
    return [(f"{name} {label}", amount) for name, amount in amounts if amount]


class Counters:
    """A tenant's counters, read by what they count."""

    def __init__(self, fields: Mapping[str, int]) -> None:
        self._fields = fields

    def total(self, name: str) -> int:
        """A counter without labels."""
        return self._fields.get(name, 0)

    def by_labels(self, name: str, labels: int) -> dict[tuple[str, ...], int]:
        """The counters of a name, by their labels; the last one may hold blanks."""
        found = (
            (tuple(field.split(" ", labels)[1:]), amount)
            for field, amount in self._fields.items()
            if field.startswith(f"{name} ")
        )
        return {key: amount for key, amount in sorted(found) if len(key) == labels}

    def times(self, name: str, labels: int) -> dict[tuple[str, ...], Times]:
        """The durations of a name, by their labels without the bucket."""
        counts: dict[tuple[str, ...], list[int]] = {}
        sums: dict[tuple[str, ...], int] = {}
        for key, amount in self.by_labels(name, labels + 1).items():
            *before, place, last = key
            rest = (*before, last)
            found = counts.setdefault(rest, [0] * (len(BUCKETS_MS) + 1))
            if place == "sum":
                sums[rest] = amount
            elif place.isdecimal() and int(place) < len(found):
                found[int(place)] += amount
        return {
            key: Times(tuple(found), sums.get(key, 0) / 1000)
            for key, found in counts.items()
        }
