"""The half of the Redis task store that keeps a run's steps, marks and decisions."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

from conversations.json_value import JsonObject, dumps
from conversations.record import write_message
from orchestrator import redis_keys
from orchestrator.budget import Spent
from orchestrator.dues import Admitted, Dues, Needs
from orchestrator.errors import TaskNotFound
from orchestrator.events import NewEvent
from orchestrator.gate import Wait
from orchestrator.journal import (
    SUMMARY_KEY,
    Decision,
    Step,
    StepKind,
    StepStart,
    Unfinished,
    call_key,
    summary_of,
)
from orchestrator.journal_entries import (
    decision_text,
    earlier_step,
    journal_from_entries,
    kept_unfinished,
    redacted_step,
    start_text,
    step_from_entry,
    step_text,
)
from orchestrator.metrics import step_counts
from orchestrator.redis_answers import pairs, read_doorbells
from orchestrator.redis_connection import store_errors
from orchestrator.redis_dues import payment, read_admission, requirement
from orchestrator.redis_scripts import Answer
from orchestrator.redis_task_scripts import (
    Arguments,
    RedisTaskScripts,
    require_name,
)
from orchestrator.store import (
    Doorbell,
    LastStep,
    Lease,
    Recorded,
    Started,
    Wakening,
)
from orchestrator.task import AwaitedCall
from orchestrator.task_record import (
    decided_too_late,
    milliseconds,
    not_awaited,
    parking_event_data,
    parking_reason,
    resolution_event_data,
    task_from_fields,
    unknown_outcomes,
)


class RedisRunJournal(RedisTaskScripts):
    """Journals, parks and wakes runs."""

    async def record_step(
        self,
        lease: Lease,
        step: Step,
        events: Sequence[NewEvent] = (),
        *,
        dues: Dues | None = None,
        then: StepStart | None = None,
    ) -> Recorded:
        kept = redacted_step(step, self._redact)
        text = step_text(kept, attempt=lease.fence)
        keys, owed = payment(dues)
        arguments: Arguments = [
            *(("", "") if then is None else _start(then, lease)),
            owed,
            *_step_arguments(kept, text, events),
        ]
        answer = await self._write("record_step", lease, arguments, more_keys=keys)
        earlier = earlier_step(answer[0], text=text)
        begun = _started(answer[3:]) if then is not None else None
        return Recorded(earlier, read_doorbells(answer[1]), bool(answer[2]), begun)

    def _last_step(self, lease: Lease, last: LastStep | None) -> Arguments:
        """What the script that ends a task is given of its last step, if it has one."""
        if last is None:
            return []
        kept = redacted_step(last.step, self._redact)
        text = step_text(kept, attempt=lease.fence)
        return _step_arguments(kept, text, last.events)

    async def start_step(self, lease: Lease, start: StepStart) -> Started:
        is_completion = int(start.kind is StepKind.COMPLETION)
        key, text = _start(start, lease)
        return _started(
            await self._write("start_step", lease, [key, is_completion, text])
        )

    async def admit_step(
        self, lease: Lease, start: StepStart, needs: Needs
    ) -> tuple[Admitted, Started] | Wait | Spent:
        keys, wanted = requirement(needs)
        arguments = [*_start(start, lease), *wanted]
        answer = await self._write("admit_step", lease, arguments, more_keys=keys)
        admission = read_admission(needs, answer[0])
        if not isinstance(admission, Admitted):
            return admission
        return admission, _started(answer[1:])

    async def drop_start(self, lease: Lease, key: str) -> None:
        await self._write("drop_start", lease, [key])

    async def take_messages(self, lease: Lease, key: str) -> Step | None:
        entry = await self._write("take_messages", lease, [key])
        return step_from_entry(entry[0]) if entry else None

    async def append_events(
        self,
        lease: Lease,
        events: Sequence[NewEvent],
        *,
        batch: str | None = None,
        unfinished: Unfinished | None = None,
    ) -> None:
        key, text = unfinished or ("", "")
        if events or unfinished:
            said = [key, kept_unfinished(text, self._redact)]
            arguments = [batch or token_hex(8), *said, *_event_arguments(events)]
            await self._write("append_events", lease, arguments)

    async def steps(
        self, tenant: str, task_id: str, *, keys: Sequence[str] | None = None
    ) -> tuple[Step, ...]:
        require_name(tenant, task_id)
        journal = redis_keys.journal(tenant, task_id)
        with store_errors(self._address):
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.exists(redis_keys.record(tenant, task_id))
                pipeline.hmget(journal, keys) if keys else pipeline.hgetall(journal)
                exists, entries = await pipeline.execute()
        if not exists:
            raise TaskNotFound(task_id)
        if keys:
            entries = {k: v for k, v in zip(keys, entries, strict=True) if v}
        return journal_from_entries(entries).steps

    async def park(
        self, lease: Lease, calls: Sequence[AwaitedCall], *, running_seconds: float
    ) -> tuple[Doorbell, ...]:
        awaited = [
            argument
            for call in calls
            for argument in (
                call_key(call.call_id),
                dumps(call.model_dump(mode="json")),
                milliseconds(call.timeout_seconds) if call.timeout_seconds else "",
            )
        ]
        arguments: Arguments = [
            milliseconds(running_seconds),
            parking_reason(calls),
            dumps(parking_event_data(calls)),
            unknown_outcomes(calls),
            *awaited,
        ]
        return read_doorbells((await self._write("park", lease, arguments))[0])

    async def resolve(self, tenant: str, task_id: str, decision: Decision) -> Wakening:
        require_name(tenant, task_id)
        data: JsonObject = resolution_event_data(decision)
        arguments: Arguments = [
            decision.key,
            decision_text(decision),
            dumps(data),
        ]
        verdict, *answer = await self._run("resolve", tenant, task_id, arguments)
        if verdict == "unknown":
            raise TaskNotFound(task_id)
        task = task_from_fields(pairs(answer[0]))
        if verdict == "not_awaited":
            raise not_awaited(task)
        if verdict == "too_late":
            raise decided_too_late(task)
        return Wakening(task, read_doorbells(answer[1]))


def _step_arguments(step: Step, text: str, events: Sequence[NewEvent]) -> Arguments:
    counts = step_counts(step)
    arguments: list[str | int] = [step.key, text, _enters_history(step), len(counts)]
    for count in counts:
        arguments += count
    return arguments + _event_arguments(events)


def _start(start: StepStart, lease: Lease) -> tuple[str, str]:
    return start.key, start_text(start, attempt=lease.fence)


def _started(answer: Answer) -> Started:
    is_unknown, is_watched = answer
    return Started(is_unknown=is_unknown == "1", is_watched=bool(is_watched))


def _enters_history(step: Step) -> str:
    """What a turn without an answer keeps of a step."""
    if step.key == SUMMARY_KEY:
        summary = summary_of(step.outcome)
        return write_message(summary) if summary else ""
    return step.said or ""


def _event_arguments(events: Sequence[NewEvent]) -> list[str | int]:
    return [text for kind, data in events for text in (kind, dumps(data))]
