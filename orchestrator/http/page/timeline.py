"""A task as a timeline: pure functions from its events and steps to rows with bars.

The axis shows the attempts only. What lies between them (a wait for a worker, for a
retry or for a person) may be much longer than they are, so it is drawn as a gap of
fixed width and told in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

from conversations.json_value import dumps
from orchestrator.events import EventType, TaskEvent
from orchestrator.journal import Step, StepKind
from orchestrator.task import Usage

WIDTH: Final = 1000
"""Of the axis, in its own units."""
_GAP: Final = 30
_THINNEST: Final = 3
_UNKNOWN: Final = datetime.fromtimestamp(0, UTC)
_NO_TIME: Final = timedelta(milliseconds=1)

RowKind = Literal["completion", "tool_call", "messages", "step"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """From a claim to its end."""

    number: int
    worker: str
    begun_at: datetime
    ended_at: datetime | None
    outcome: str
    """How it ended, in words; empty while it runs."""
    x: float = 0
    width: float = 0
    wait_before_seconds: float = 0.0
    resumed: int = 0
    """Steps of earlier attempts that it found finished."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One step, finished or under way."""

    key: str
    kind: RowKind
    name: str
    attempt: int
    begun_at: datetime
    seconds: float | None
    """None while it is under way."""
    usage: Usage = field(default_factory=Usage)
    cost_micros: int = 0
    waited_seconds: float = 0.0
    error: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Title and text of what is folded away."""
    said: str = ""
    """What a completion says, in short."""
    x: float = 0
    width: float = 0

    @property
    def is_open(self) -> bool:
        """Whether it is under way."""
        return self.seconds is None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All of a task's attempts and steps."""

    attempts: tuple[Attempt, ...]
    rows: tuple[Row, ...]
    seconds: float
    """The time that its attempts took together."""
    gaps: tuple[tuple[float, float], ...]
    """Place and width of what lies between attempts."""
    live_text: str = ""
    """What the model is saying just now."""


def make_timeline(
    events: Sequence[TaskEvent], steps: Iterable[Step], *, now: datetime
) -> Timeline:
    """Lay out what is known of a task."""
    attempts = list(_attempts(events))
    finished = [_row_of(step, _calls(events)) for step in steps]
    rows = [*finished, *_open_calls(events, finished)]
    rows.sort(key=lambda row: (row.begun_at, row.key))
    axis = _Axis(attempts, now)
    return Timeline(
        attempts=tuple(_placed_attempts(attempts, finished, axis)),
        rows=tuple(axis.placed(row) for row in rows),
        seconds=axis.seconds,
        gaps=tuple(axis.gaps),
        live_text=_live_text(events),
    )


_ENDS: Final = {
    EventType.TASK_RELEASED,
    EventType.TASK_WAITING,
    EventType.TASK_COMPLETED,
    EventType.TASK_FAILED,
    EventType.TASK_CANCELLED,
    EventType.TASK_TIMED_OUT,
}


def _attempts(events: Sequence[TaskEvent]) -> Iterator[Attempt]:
    current: Attempt | None = None
    for event in events:
        if event.type is EventType.TASK_STARTED:
            if current is not None:
                yield current
            current = Attempt(
                number=event.attempt,
                worker=str(event.data.get("worker", "")),
                begun_at=event.at,
                ended_at=None,
                outcome="",
            )
        elif event.type in _ENDS and current is not None:
            outcome = event.type.removeprefix("task.")
            reason = event.data.get("message") or event.data.get("reason")
            yield replace(
                current,
                ended_at=event.at,
                outcome=f"{outcome}: {reason}" if reason else outcome,
            )
            current = None
    if current is not None:
        yield current


def _calls(events: Sequence[TaskEvent]) -> dict[str, dict[str, Any]]:
    """The tool calls' items, by the step that they belong to."""
    items: dict[str, dict[str, Any]] = {}
    for event in events:
        item = event.data.get("item") if event.type is EventType.ITEM_ADDED else None
        if isinstance(item, dict) and item.get("type") == "tool_call":
            place = str(item.get("id", "")).removeprefix("call-")
            items[f"tool:{place}"] = item
    return items


def _row_of(step: Step, calls: Mapping[str, dict[str, Any]]) -> Row:
    recorded = step.recorded_at or _UNKNOWN
    row = Row(
        key=step.key,
        kind=step.kind.value,
        name=step.name or step.key,
        attempt=step.attempt,
        begun_at=recorded - timedelta(seconds=step.seconds),
        seconds=step.seconds,
        usage=step.usage,
        cost_micros=step.cost_micros,
        waited_seconds=step.waited_seconds,
        error=step.error,
    )
    outcome = step.outcome if isinstance(step.outcome, dict) else {}
    if step.kind is StepKind.COMPLETION:
        return replace(row, **_completion_facts(outcome))
    if step.kind is StepKind.TOOL_CALL:
        arguments = calls.get(step.key, {}).get("arguments", {})
        result = str(outcome.get("content", ""))
        title = "Error" if step.error else "Result"
        return replace(row, facts={"Arguments": _text(arguments), title: result})
    return replace(row, facts={"Outcome": _text(step.outcome)})


def _completion_facts(outcome: Mapping[str, Any]) -> dict[str, Any]:
    found = outcome.get("message", outcome)
    message = found if isinstance(found, dict) else {}
    calls = [call for call in message.get("tool_calls", ()) if isinstance(call, dict)]
    asked = "\n".join(
        f"{call.get('name')}({_text(call.get('arguments', {}))})" for call in calls
    )
    texts = {
        "Reasoning": str(message.get("reasoning") or ""),
        "Answer": str(message.get("content") or ""),
        "Asks for": asked,
    }
    names = ", ".join(str(call.get("name")) for call in calls)
    said = f"asks for {names}" if names else str(message.get("content") or "")
    return {
        "facts": {title: text for title, text in texts.items() if text},
        "said": said,
    }


def _open_calls(events: Sequence[TaskEvent], finished: Sequence[Row]) -> Iterator[Row]:
    """Calls that the present attempt has begun and not ended."""
    done = {row.key for row in finished}
    started = [event for event in events if event.type is EventType.TASK_STARTED]
    ended = any(event.type.is_end for event in events)
    if not started or ended:
        return
    present, calls = started[-1].attempt, _calls(events)
    for event in events:
        key = f"tool:{str(event.data.get('item_id', '')).removeprefix('call-')}"
        is_start = event.type is EventType.TOOL_CALL_STARTED
        if is_start and event.attempt == present and key not in done:
            yield Row(
                key=key,
                kind="tool_call",
                name=str(event.data.get("name", "")),
                attempt=event.attempt,
                begun_at=event.at,
                seconds=None,
                facts={"Arguments": _text(calls.get(key, {}).get("arguments", {}))},
            )


def _live_text(events: Sequence[TaskEvent]) -> str:
    """The text of the last message, while it is still arriving."""
    pieces: list[str] = []
    for event in events:
        if event.type is EventType.PART_ADDED:
            pieces = []
        elif event.type is EventType.TEXT_DELTA:
            pieces.append(str(event.data.get("delta", "")))
        elif event.type in _ENDS | {EventType.TEXT_DONE, EventType.TASK_STARTED}:
            pieces = []
    return "".join(pieces)


class _Axis:
    """Where an instant stands: attempts side by side, gaps of one width."""

    def __init__(self, attempts: Sequence[Attempt], now: datetime) -> None:
        self._spans = [
            (each.begun_at, max(each.ended_at or now, each.begun_at + _NO_TIME))
            for each in attempts
        ]
        self.seconds = sum((end - begin).total_seconds() for begin, end in self._spans)
        between = max(0, len(self._spans) - 1)
        self._scale = (WIDTH - between * _GAP) / (self.seconds or 1.0)
        self._starts: list[float] = []
        self.gaps: list[tuple[float, float]] = []
        x = 0.0
        for begin, end in self._spans:
            if self._starts:
                self.gaps.append((round(x, 1), _GAP))
                x += _GAP
            self._starts.append(x)
            x += (end - begin).total_seconds() * self._scale
        self._bounds = {
            each.number: (start, start + (end - begin).total_seconds() * self._scale)
            for each, start, (begin, end) in zip(
                attempts, self._starts, self._spans, strict=True
            )
        }

    def x_of(self, instant: datetime) -> float:
        """The place of an instant; one outside of the attempts stands at their edge."""
        place = 0.0
        for start, (begin, end) in zip(self._starts, self._spans, strict=True):
            if instant < begin:
                return place if instant > begin - _NO_TIME else max(place, start)
            within = (min(instant, end) - begin).total_seconds()
            place = start + within * self._scale
            if instant <= end:
                return place
        return place

    def placed(self, row: Row) -> Row:
        """A row with its bar, within its own attempt."""
        first, last = self._bounds.get(row.attempt, (0.0, float(WIDTH)))
        begin = max(first, self.x_of(row.begun_at))
        if row.seconds is None:
            end = last
        else:
            end = self.x_of(row.begun_at + timedelta(seconds=row.seconds))
        width = max(_THINNEST, min(end, last) - begin)
        x = max(0.0, min(begin, WIDTH - width))
        return replace(row, x=round(x, 1), width=round(width, 1))

    def span(self, number: int) -> tuple[float, float]:
        """Place and width of an attempt."""
        begin, end = self._spans[number]
        width = (end - begin).total_seconds() * self._scale
        return round(self._starts[number], 1), round(max(_THINNEST, width), 1)


def _placed_attempts(
    attempts: Sequence[Attempt], finished: Sequence[Row], axis: _Axis
) -> Iterator[Attempt]:
    ends = [attempt.ended_at for attempt in attempts]
    waits = [0.0] + [
        max(0.0, (after.begun_at - before.ended_at).total_seconds())
        if before.ended_at
        else 0.0
        for before, after in pairwise(attempts)
    ]
    for place, attempt in enumerate(attempts):
        x, width = axis.span(place)
        earlier = sum(row.attempt < attempt.number for row in finished)
        yield replace(
            attempt,
            x=x,
            width=width,
            wait_before_seconds=waits[place],
            resumed=earlier if place and ends[place - 1] else 0,
        )


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return dumps(value)
