"""A task and its events as stored text, and what makes requests equal.

The store keeps a task's state beside its specification, in fields of its own. Knows no
store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

from conversations.conversation import is_hidden_id
from conversations.json_value import JsonObject
from conversations.known_fields import read_known
from conversations.trusted import trusted, whole
from conversations.whole_number import whole_number
from orchestrator.errors import InvalidInput, UnreadableRecord
from orchestrator.events import TaskEvent
from orchestrator.journal import Decision
from orchestrator.store import Ending, TaskEnd, TaskFilter
from orchestrator.stored_form import StoredForm
from orchestrator.task import (
    AwaitedCall,
    Task,
    TaskFailure,
    TaskResult,
    TaskStatus,
)
from orchestrator.task_specification import (
    BESIDE,
    STATE_FIELDS,
    specified_task,
)

UNREADABLE: Final = (KeyError, ValueError, OverflowError, RecursionError)
"""What comes of reading text that is not ours, or of another release."""

_RESULT: Final = StoredForm(TaskResult, without=frozenset({"status", "executed_at"}))

_STATUSES: Final = {status.value: status for status in TaskStatus}
_FIRST_STATE: Final = {name: Task.model_fields[name].default for name in STATE_FIELDS}

AWAITED_PREFIX: Final = "await:"
"""Begins the fields of a record that hold awaited calls; their step keys follow."""
LAPSE_PREFIX: Final = "lapse:"
"""Begins the fields that say when such a call is refused; their step keys follow."""

_NOT_PART_OF_A_REQUEST: Final = {
    "id",
    "tenant",
    "agent_version",
    "queue",
    "idempotency_key",
}
"""What may differ between two sendings of the same request."""

_CACHED_FIELDS: Final = {
    "agent_name",
    "agent_version",
    "input",
    "parameters",
    "context",
    "after",  # their answers stand in its input
    "after_failure",
}


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, rounded up."""
    return math.ceil(seconds * 1000)


@lru_cache(maxsize=256)  # many tasks that are made together share theirs
def instant(milliseconds_text: str) -> datetime:
    """The aware instant of a stored number of milliseconds."""
    return datetime.fromtimestamp(int(milliseconds_text) / 1000, UTC)


def find_instant(fields: Mapping[str, str], name: str) -> datetime | None:
    """The instant in a field that may be absent."""
    return instant(fields[name]) if name in fields else None


def deadline_left_seconds(fields: Mapping[str, str]) -> float | None:
    """The seconds from a record's claim to its deadline; the store wrote both."""
    if "deadline_at_ms" not in fields:
        return None
    return max(0, int(fields["deadline_at_ms"]) - int(fields["claimed_ms"])) / 1000


def accepted(
    task: Task, *, created_at: datetime, due_at: datetime, is_blank: bool = False
) -> Task:
    """The task as it begins, whatever state its submitter may have given it.

    A blank one has none and is nobody else's yet: it is completed as it is.
    """
    if is_blank:
        fields = vars(task)
        fields["created_at"], fields["due_at"] = created_at, due_at
        return task
    begun = {"created_at": created_at, "due_at": due_at}
    return whole(Task, vars(task) | _FIRST_STATE | begun)


def request_hash(task: Task) -> str:
    """A digest that is equal for two sendings of one request.

    Each sending may bring a hidden conversation of its own.
    """
    left_out = BESIDE | _NOT_PART_OF_A_REQUEST
    if is_hidden_id(task.conversation_id):
        left_out = left_out | {"conversation_id"}
    return _digest(task.model_dump(mode="json", exclude=left_out))


def cache_hash(task: Task) -> str:
    """A digest that is equal for tasks whose answers may be shared."""
    return _digest(task.model_dump(mode="json", include=_CACHED_FIELDS))


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def task_from_fields(fields: Mapping[str, str]) -> Task:
    """Read a record back: the specification with the state that the store keeps.

    Raises:
        UnreadableRecord: another release wrote it.
    """
    try:
        return specified_task(fields["spec"], _state(fields))
    except UNREADABLE as exc:
        raise UnreadableRecord(fields.get("schema", "")) from exc


def _state(fields: Mapping[str, str]) -> dict[str, object]:
    finished_at = find_instant(fields, "finished_ms")
    get = fields.get
    return {
        "status": _STATUSES[fields["status"]],
        "attempt": int(fields["attempt"]),
        "failed_attempts": int(get("failed_attempts", 0)),
        "crashes": int(get("crashes", 0)),
        "suspect": "suspect" in fields,
        "worker": get("worker"),
        "created_at": instant(fields["created_ms"]),
        "due_at": find_instant(fields, "due_ms"),
        "started_at": find_instant(fields, "started_ms"),
        "finished_at": finished_at,
        "cancel_requested_at": find_instant(fields, "cancel_requested_ms"),
        "running_seconds": int(get("running_ms", 0)) / 1000,
        "pending_reason": get("pending_reason"),
        "awaiting": _awaiting(fields),
        "unknown_outcomes": int(get("unknown_outcomes", 0)),
        "maybe_paid": int(get("maybe_paid", 0)),
        "webhook_attempts": int(get("webhook_attempts", 0)),
        "webhook_delivered_at": find_instant(fields, "webhook_delivered_ms"),
        "webhook_error": get("webhook_error"),
        "traceparent": get("traceparent"),
        "result": _result(fields, finished_at),
        "failure": _failure(fields),
    }


def _awaiting(fields: Mapping[str, str]) -> tuple[AwaitedCall, ...]:
    if fields["status"] != TaskStatus.WAITING:
        return ()
    found = (
        read_known(AwaitedCall, json.loads(text)).model_copy(
            update={
                "expires_at": find_instant(
                    fields, LAPSE_PREFIX + name.removeprefix(AWAITED_PREFIX)
                ),
            }
        )
        for name, text in fields.items()
        if name.startswith(AWAITED_PREFIX)
    )
    return tuple(sorted(found, key=lambda call: call.call_id))


def _result(
    fields: Mapping[str, str], finished_at: datetime | None
) -> TaskResult | None:
    if "result" not in fields:
        return None
    return trusted(
        TaskResult,
        **_RESULT.read(fields["result"]),
        status=_STATUSES[fields["status"]],
        executed_at=finished_at,
    )


END_FIELDS: Final = ("status", "result", "finished_ms", "events", "schema")
"""What `end_from_fields` reads of a record."""


def end_from_fields(values: Sequence[str | None]) -> TaskEnd | None:
    """Read how a task ended from its `END_FIELDS`; None without a record.

    Raises:
        UnreadableRecord: another release wrote it.
    """
    names = zip(END_FIELDS, values, strict=True)
    fields = {name: value for name, value in names if value is not None}
    if "status" not in fields:
        return None
    try:
        result = _result(fields, find_instant(fields, "finished_ms"))
        last = int(fields["events"]) - 1
        return TaskEnd(_STATUSES[fields["status"]], result, last)
    except UNREADABLE as exc:
        raise UnreadableRecord(fields.get("schema", "")) from exc


def _failure(fields: Mapping[str, str]) -> TaskFailure | None:
    if "failure" not in fields:
        return None
    return read_known(TaskFailure, json.loads(fields["failure"]))


def event_from_entry(entry_id: str, fields: Mapping[str, str]) -> TaskEvent:
    """Read an entry of the event log, whose id is `0-<sequence + 1>`."""
    return TaskEvent(
        sequence=int(entry_id.partition("-")[2]) - 1,
        type=fields["type"],
        at=instant(fields["at_ms"]),
        attempt=int(fields["attempt"]),
        data=json.loads(fields["data"]),
    )


def created_event_data(task: Task) -> JsonObject:
    """The data of a task's first event."""
    data: JsonObject = {"agent_name": task.agent_name}
    return data | ({"traceparent": task.traceparent} if task.traceparent else {})


def end_event_data(ending: Ending) -> JsonObject:
    """The data of a task's last event; the result itself stands in the record."""
    data: JsonObject = {"status": ending.status.value}
    if ending.result:
        data["stop_reason"] = ending.result.stop_reason.value
        data["partial"] = ending.result.partial
    return data | _failure_facts(ending.failure)


def release_event_data(
    reason: str, delay_seconds: float, failure: TaskFailure | None
) -> JsonObject:
    """The data of the event that ends an attempt but not the task."""
    data: JsonObject = {"reason": reason, "delay_seconds": delay_seconds}
    return data | _failure_facts(failure)


_WHY: Final = {
    "unknown_outcome": "the outcome of a call is unknown",
    "approval": "a call needs approval",
    "budget_spent": "the budget is spent",
}
LAPSED_NOTE: Final = "nobody decided in time"
"""The note of a decision that the store takes when an awaited call expires."""


def parking_reason(calls: Sequence[AwaitedCall]) -> str:
    """Why a parked task waits, for people."""
    named = ", ".join(f"{call.tool} ({call.call_id})" for call in calls)
    reasons = {call.reason for call in calls}
    what = " and ".join(words for each, words in _WHY.items() if each in reasons)
    return f"{what}: {named}; decide with `celeriac resolve`"


def unknown_outcomes(calls: Sequence[AwaitedCall]) -> int:
    """Count the calls of which nobody knows what they did."""
    return sum(call.reason == "unknown_outcome" for call in calls)


def parking_event_data(calls: Sequence[AwaitedCall]) -> JsonObject:
    """The data of the event that a task waits for decisions."""
    return {
        "reason": parking_reason(calls),
        "calls": [call.model_dump(mode="json") for call in calls],
    }


def resolution_event_data(decision: Decision) -> JsonObject:
    """The data of the event that a call was decided on."""
    return {
        "call_id": decision.key.removeprefix("tool:"),
        "action": decision.action.value,
        "note": decision.note,
    }


def not_awaited(task: Task) -> InvalidInput:
    """The error of a decision that nobody waits for."""
    awaited = ", ".join(call.call_id for call in task.awaiting) or "none"
    waiting = awaited if task.status is TaskStatus.WAITING else "none"
    return InvalidInput(
        "call_id",
        f"task {task.id} ({task.status.value}) awaits no decision on this call;"
        f" it awaits: {waiting}",
    )


def decided_too_late(task: Task) -> InvalidInput:
    """The error of a decision on a call whose time for one is over."""
    return InvalidInput(
        "call_id",
        f"the time for a decision on this call of task {task.id} is over: it is"
        " refused, and the run goes on without it",
    )


def _failure_facts(failure: TaskFailure | None) -> JsonObject:
    return {"code": failure.code, "message": failure.message} if failure else {}


def matches(task: Task, task_filter: TaskFilter) -> bool:
    """Tell whether a task has every given field."""
    return (
        task_filter.status in (None, task.status)
        and task_filter.agent_name in (None, task.agent_name)
        and task_filter.conversation_id in (None, task.conversation_id)
        and (task_filter.tag is None or task_filter.tag in task.tags)
        and _is_of_the_time(task, task_filter)
    )


def _is_of_the_time(task: Task, task_filter: TaskFilter) -> bool:
    after, before = task_filter.created_after, task_filter.created_before
    at = task.created_at
    if at is None:
        return after is None and before is None
    return (after is None or after <= at) and (before is None or at < before)


def read_cursor(cursor: str | None) -> int | None:
    """The place below which the next page starts.

    Raises:
        InvalidInput: it is no cursor of a page.
    """
    if not cursor:
        return None
    place = whole_number(cursor)
    if place is None:
        raise InvalidInput(
            "cursor",
            f"not a cursor ({len(cursor)} characters); pass a page's next_cursor",
        )
    return place
