"""What the templates are given of tasks: pure functions from records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from orchestrator.events import TaskEvent
from orchestrator.http.auth import Caller
from orchestrator.http.page.rendering import allows
from orchestrator.http.problem import Problem
from orchestrator.http.submitter import check_may_decide
from orchestrator.http_settings import Scope
from orchestrator.journal import MAY_BE_DECIDED, Action, Step, StepKind
from orchestrator.metrics import Counters
from orchestrator.prompt import PROMPT_FIELDS
from orchestrator.task import Task, TaskStatus, Usage


class TaskLine(NamedTuple):
    """A task in a list."""

    id: str
    title: str
    agent: str
    status: str
    cancelling: bool
    attempt: int
    created_at: datetime | None
    took: float | None
    tokens: int
    note: str


class TaskView(NamedTuple):
    """What is told of one task beside its record."""

    title: str
    status: str
    cancelling: bool
    ended: bool
    pending_reason: str
    waited: float | None
    completions: int
    tool_calls: int
    usage: Usage
    cost_micros: int
    last_sequence: int
    no_decision: str


class Actions(NamedTuple):
    """What the caller may do with a task now."""

    cancel: bool
    retry: bool
    resolve: bool


_WORDS: Final = {
    "unknown_outcome": {
        Action.DONE: "It was done",
        Action.RUN: "It was not: run it",
        Action.FAIL: "End the task",
    },
    "approval": {
        Action.RUN: "Allow this call",
        Action.REFUSE: "Refuse it, go on without",
        Action.DONE: "Answer in its place",
        Action.FAIL: "End the task",
    },
    "budget_spent": {
        Action.RUN: "Let it spend its budgets once more",
        Action.DONE: "Answer with what there is",
        Action.FAIL: "End the task",
    },
}
CHOICES: Final = {
    reason: [(action.value, _WORDS[reason][action]) for action in actions]
    for reason, actions in MAY_BE_DECIDED.items()
}
"""What a person may decide, and the words on the buttons, by why it is asked."""

_NO_SCOPE: Final = "Your API key may not decide; another one with the scope can."


def title_of(task: Task) -> str:
    """Words by which people know a task: what it was asked."""
    for name in PROMPT_FIELDS:
        value = task.input.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return json.dumps(task.input, ensure_ascii=False) if task.input else task.id


def line_of(task: Task, *, now: datetime) -> TaskLine:
    """A task's line in the list."""
    took = None
    if task.started_at is not None:
        took = ((task.finished_at or now) - task.started_at).total_seconds()
    note = task.pending_reason or ""
    if task.failure is not None and task.status is not TaskStatus.COMPLETED:
        note = f"{task.failure.code}: {task.failure.message}"
    return TaskLine(
        id=task.id,
        title=title_of(task),
        agent=task.agent_name,
        status=task.status.value,
        cancelling=_cancelling(task),
        attempt=task.attempt,
        created_at=task.created_at,
        took=took,
        tokens=task.result.stats.usage.total_tokens if task.result else 0,
        note=note,
    )


def view_of(
    task: Task,
    steps: Sequence[Step],
    events: Sequence[TaskEvent],
    *,
    now: datetime,
    caller: Caller,
) -> TaskView:
    """What a task's page tells beside its record."""
    waited = None
    if task.created_at is not None:
        begun = task.started_at or task.finished_at or now
        waited = (begun - task.created_at).total_seconds()
    kinds = [step.kind for step in steps]
    return TaskView(
        title=title_of(task),
        status=task.status.value,
        cancelling=_cancelling(task),
        ended=task.status.is_terminal,
        pending_reason=task.pending_reason or "",
        waited=waited,
        completions=kinds.count(StepKind.COMPLETION),
        tool_calls=kinds.count(StepKind.TOOL_CALL),
        usage=sum((step.usage for step in steps), start=Usage()),
        cost_micros=sum(step.cost_micros for step in steps),
        last_sequence=events[-1].sequence if events else -1,
        no_decision=_why_no_decision(task, steps, caller),
    )


def actions_of(task: Task, steps: Sequence[Step], caller: Caller) -> Actions | None:
    """What the caller may do; None when that is nothing."""
    ended = task.status.is_terminal
    actions = Actions(
        cancel=not ended and not _cancelling(task) and allows(caller, Scope.CANCEL),
        retry=ended and allows(caller, Scope.SUBMIT),
        resolve=bool(task.awaiting) and not _why_no_decision(task, steps, caller),
    )
    return actions if any(actions) else None


def counts_of(counters: Counters) -> Iterator[tuple[str, int]]:
    """How many tasks stand where; of ended ones, how many there have ever been."""
    unfinished = counters.by_labels("tasks", 2)
    ended = counters.times("ended", 2)
    for status in TaskStatus:
        if status.is_terminal:
            yield (
                status.value,
                _sum_of(status, {k: sum(v[0]) for k, v in ended.items()}),
            )
        else:
            yield status.value, _sum_of(status, unfinished)


def _sum_of(status: str, amounts: Mapping[tuple[str, ...], int]) -> int:
    return max(0, sum(n for (of, _), n in amounts.items() if of == status))


def _cancelling(task: Task) -> bool:
    return task.cancel_requested_at is not None and not task.status.is_terminal


def _why_no_decision(task: Task, steps: Sequence[Step], caller: Caller) -> str:
    if not allows(caller, Scope.APPROVE):
        return _NO_SCOPE
    try:
        check_may_decide(task, steps, caller)
    except Problem as problem:
        return problem.detail
    return ""
