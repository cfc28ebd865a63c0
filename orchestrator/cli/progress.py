"""How a task goes, read from its events. Pure: no terminal, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.events import EventType, TaskEvent

_STATUS = {
    EventType.TASK_CREATED: "pending",
    EventType.TASK_QUEUED: "pending",
    EventType.TASK_RELEASED: "pending",
    EventType.TASK_STARTED: "running",
    EventType.TASK_WAITING: "waiting",
    EventType.TASK_COMPLETED: "completed",
    EventType.TASK_FAILED: "failed",
    EventType.TASK_CANCELLED: "cancelled",
    EventType.TASK_TIMED_OUT: "timed_out",
}

_TROUBLE = {
    EventType.TOOL_CALL_FAILED: "failed",
    EventType.CALL_UNKNOWN: "may or may not have been done before a crash",
}


@dataclass
class TaskProgress:
    """What is known of one task so far."""

    task_id: str
    label: str
    status: str = "pending"
    step: str = ""
    completions: int = 0
    tool_calls: int = 0
    tokens: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def apply(self, event: TaskEvent) -> str | None:
        """Take an event in; return a line for people when it is worth one."""
        if event.type in _STATUS:
            return self._change_status(event)
        step = self._next_step(event)
        if step is None:
            return None
        self.step = step
        return step

    def seconds(self, now: datetime) -> float | None:
        """Return how long it runs or ran, None before its start."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.ended_at or now) - self.started_at).total_seconds())

    def _change_status(self, event: TaskEvent) -> str | None:
        self.step = ""
        changed = self.status != _STATUS[event.type]
        self.status = _STATUS[event.type]
        if event.type is EventType.TASK_STARTED:
            self.started_at = self.started_at or event.at
        if event.type.is_end:
            self.ended_at = event.at
            self.started_at = self.started_at or event.at
        return self.status if changed else None

    def _next_step(self, event: TaskEvent) -> str | None:
        name = str(event.data.get("name", "a tool"))
        match event.type:
            case EventType.COMPLETION_RECORDED:
                self.completions += 1
                self.tokens += total_tokens(event.data.get("usage"))
                return f"completion {self.completions}"
            case EventType.TOOL_CALL_STARTED:
                self.tool_calls += 1
                return name
            case EventType.TOOL_CALL_FAILED | EventType.CALL_UNKNOWN:
                return f"{name} {_TROUBLE[event.type]}"
            case EventType.PROGRESS:
                return str(event.data.get("message", "")) or None
            case EventType.CANCEL_REQUESTED:
                return "cancel requested"
            case _:
                return None


def total_tokens(usage: object) -> int:
    """Return the tokens of an event's `usage`, 0 when the endpoint told none."""
    if not isinstance(usage, dict):
        return 0
    return int(usage.get("input_tokens", 0)) + int(usage.get("output_tokens", 0))
