"""What must hold after any fault, checked from the outside.

Numbers are those of the reference's list: the record, the event logs, the endpoint's
log and the clients' logs are compared; nothing is asked of the code under test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from conversations.store import StoredMessage
from orchestrator import EventType, Task, TaskEvent
from orchestrator.journal import Step, StepKind
from tests.faults.fleet import Fleet

ANSWER_SECONDS = 5.5
"""A submit is answered within 5 s; half a second for a busy machine."""
KEYS = ("", ":events", ":journal")
_CLOCK_SECONDS = 0.05
"""Between the store's clock in whole milliseconds and this process's."""


async def broken_invariants(fleet: Fleet) -> list[str]:
    """Return a sentence for everything that does not hold; all tasks have ended."""
    broken: list[str] = []
    for label, task_id in fleet.accepted.items():
        task = await fleet.celeriac.get(task_id)
        events = [event async for event in fleet.celeriac.events(task_id)]
        steps = await fleet.celeriac.steps(task_id)
        broken += [
            f"{label} ({task_id}): {problem}"
            for problem in (
                *_one_end(task, events),
                *_fences_rise(task, events),
                *_steps_are_paid_once(fleet, label, task, steps),
            )
        ]
        if await fleet.celeriac.get(task_id) != task:
            broken.append(f"{label}: an ended task changed")
    broken += _effects_have_one_key(fleet)
    broken += _nothing_left_open(fleet)
    broken += [
        f"{answer.call} took {answer.seconds:.1f} s: {answer.error!r}"
        for answer in fleet.answers
        if answer.seconds > ANSWER_SECONDS
    ]
    return broken


def _one_end(task: Task, events: list[TaskEvent]) -> Iterable[str]:
    """1 and 2: a record, one terminal state, one end event, gapless numbers."""
    if not task.status.is_terminal:
        yield f"still {task.status}"
    ends = [event.type for event in events if event.type.is_end]
    if ends != [EventType(f"task.{task.status}")] or not events[-1].type.is_end:
        yield f"ends {ends} in the log of a task that is {task.status}"
    numbers = [event.sequence for event in events]
    if numbers != list(range(len(numbers))):
        yield f"event numbers {numbers}"


def _fences_rise(task: Task, events: list[TaskEvent]) -> Iterable[str]:
    """5: no write of an older attempt after one of a newer."""
    attempts = [event.attempt for event in events]
    if attempts != sorted(attempts):
        yield f"attempts {attempts} in the event log"
    starts = [e.attempt for e in events if e.type is EventType.TASK_STARTED]
    if len(set(starts)) != len(starts) or max(starts, default=0) != task.attempt:
        yield f"attempts {starts} began; the record says {task.attempt}"


def _steps_are_paid_once(
    fleet: Fleet, label: str, task: Task, steps: tuple[Step, ...]
) -> Iterable[str]:
    """3 and 4: nothing recorded is asked again; a repeat needs an interruption."""
    recorded = {
        int(step.key.rpartition(":")[2]): step.recorded_at.timestamp()
        for step in steps
        if step.kind is StepKind.COMPLETION and step.recorded_at is not None
    }
    mine = [request for request in fleet.model.requests if request.label == label]
    for request in mine:
        at = recorded.get(request.completion)
        if at is not None and request.at > at + _CLOCK_SECONDS:
            yield f"completion {request.completion} was asked after it was recorded"
    extra = len(mine) - len(recorded)
    if extra > max(0, task.attempt - 1) + (not task.result):
        yield f"{extra} requests beyond the journal in {task.attempt} attempts"
    if task.result and extra > task.maybe_paid:
        yield f"{extra} requests beyond the journal, {task.maybe_paid} were counted"


def _effects_have_one_key(fleet: Fleet) -> Iterable[str]:
    """A repeated tool call carries the key of the first."""
    keys: dict[tuple[object, object], set[object]] = {}
    for effect in fleet.effects():
        keys.setdefault((effect["label"], effect["step"]), set()).add(effect["key"])
    return [
        f"effect {name} had keys {found}"
        for name, found in keys.items()
        if len(found) > 1
    ]


def _nothing_left_open(fleet: Fleet) -> Iterable[str]:
    """7: no lease and no due entry of a task that has ended; 11: all of it expires."""
    ended = {f"default {task_id}" for task_id in fleet.accepted.values()}
    with fleet.raw() as client:
        for name in ("leases", "due"):
            left = ended & set(client.zrange(f"celeriac:_fleet:{name}", 0, -1))
            if left:
                yield f"{name} holds ended tasks: {left}"
        for task_id in fleet.accepted.values():
            for key in (f"celeriac:default:task:{task_id}{kind}" for kind in KEYS):
                if client.ttl(key) == -1:
                    yield f"{key} never expires"


async def broken_turns(fleet: Fleet, conversation_id: str) -> list[str]:
    """6: a conversation holds each turn once, whole and in the order of acceptance."""
    service = fleet.celeriac.conversations
    messages: list[StoredMessage] = []
    while page := await service.get_messages(
        conversation_id, limit=100, after=messages[-1].seq if messages else 0
    ):
        messages += page
    numbers = [entry.seq for entry in messages]
    broken = []
    if numbers != list(range(1, len(numbers) + 1)):
        broken.append(f"sequence numbers {numbers}")
    asked = [e.message.content for e in messages if e.message.role == "user"]
    wanted = [
        f"label={label}"
        for label in fleet.order
        if (await fleet.record(label)).conversation_id == conversation_id
        and (await fleet.record(label)).status == "completed"
    ]
    said = [content.partition(" ")[0] for content in asked]
    if said != wanted:
        broken.append(f"turns {said}, accepted {wanted}")
    repeated = [text for text, count in Counter(said).items() if count > 1]
    calls = [call.id for e in messages for call in e.message.tool_calls]
    results = [e.message.tool_call_id for e in messages if e.message.role == "tool"]
    if calls != results or repeated:
        broken.append(f"calls {calls}, results {results}, repeated {repeated}")
    return broken
