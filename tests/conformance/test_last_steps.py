"""A run's last step that is recorded with its end, on every store."""

from __future__ import annotations

from typing import Any

import pytest

from conversations.errors import RedactionFailed
from orchestrator.errors import LeaseLost
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.store import Ending, LastStep, Lease
from orchestrator.task import Task, TaskStatus, Usage
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import claim, completed, failed, running
from tests.conformance.turn_steps import answered, asked, said, without_names

KEY = "completion:1"
SPOKEN = Step(
    key=KEY,
    kind=StepKind.COMPLETION,
    name="model",
    outcome={"message": {"content": "Hi Ada", "empty": []}},
    said="Hi Ada",
    usage=Usage(input_tokens=3, output_tokens=4),
    seconds=0.5,
)
EVENTS = (
    NewEvent(type=EventType.ITEM_ADDED, data={"output_index": 0, "item": {"id": "m"}}),
    NewEvent(type=EventType.COMPLETION_RECORDED, data={"completion": 1, "none": []}),
)
LAST = LastStep(SPOKEN, EVENTS)


def ending_of(kind: str, task: Task) -> Ending:
    return {
        "completed": answered(task),
        "failed": failed(),
        "cancelled": Ending(status=TaskStatus.CANCELLED),
    }[kind]


async def began(stores: Stores) -> tuple[Task, Lease]:
    task = await asked(stores, "Hello")
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.start_step(lease, StepStart(key=KEY, kind=StepKind.COMPLETION))
    return task, lease


async def left(stores: Stores, task: Task, model: str) -> list[Any]:
    """What can be seen of a task that has ended, and of the model that it asked."""
    tasks, ended = stores.tasks, await stores.tasks.get("default", task.id)
    moving = {"id", "created_at", "started_at", "finished_at", "due_at"}
    result = ended.result
    events = await tasks.events("default", task.id)
    steps = await tasks.steps("default", task.id)
    counters = await tasks.counters("default")
    tokens = counters.by_labels("tokens", 2)
    return [
        ended.model_dump(exclude=moving | {"result"}),
        result and (result.content, result.stats),
        [(each.sequence, each.type, each.attempt, each.data) for each in events],
        [each.model_dump(exclude={"recorded_at", "name"}) for each in steps],
        [each.name == model for each in steps],
        [tokens.get((kind, model)) for kind in ("input", "output")],
        counters.times("completion", 1)[model,],
        (await said(stores))[-2:],
    ]


@pytest.mark.parametrize("kind", ["completed", "failed", "cancelled"])
async def test_it_leaves_what_two_changes_leave(stores: Stores, kind: str) -> None:
    found = []
    for together in (True, False):
        task, lease = await began(stores)
        model = f"model-{together}"
        last = LastStep(SPOKEN.model_copy(update={"name": model}), EVENTS)
        if not together:
            await stores.tasks.record_step(lease, *last)
        await stores.tasks.finish(
            lease,
            ending_of(kind, task),
            running_seconds=1,
            last=last if together else None,
        )
        found.append(await left(stores, task, model))
    assert found[0] == found[1]


async def test_it_is_written_once_whoever_wrote_it_first(stores: Stores) -> None:
    task, lease = await began(stores)
    await stores.tasks.record_step(lease, *LAST)
    other = LastStep(SPOKEN.model_copy(update={"outcome": "other"}), EVENTS)
    ending = answered(task)
    await stores.tasks.finish(lease, ending, running_seconds=0, last=other)
    (kept,) = await stores.tasks.steps("default", task.id)
    assert kept.outcome == SPOKEN.outcome
    types = [each.type for each in await stores.tasks.events("default", task.id)]
    assert types.count(EventType.COMPLETION_RECORDED) == 1
    await stores.tasks.finish(lease, ending, running_seconds=0, last=other)
    assert types == [
        each.type for each in await stores.tasks.events("default", task.id)
    ]


async def test_a_stale_run_records_nothing_with_its_end(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.release(lease, running_seconds=0, reason="drained")
    with pytest.raises(LeaseLost):
        await stores.tasks.finish(lease, completed(lease), running_seconds=0, last=LAST)
    assert await stores.tasks.steps("default", lease.task_id) == ()


async def test_an_end_clears_a_suspect_as_its_last_step_would(stores: Stores) -> None:
    task, lease = await began(stores)
    await stores.tasks.bury(lease.worker)
    await stores.tasks.sweep()
    again = await claim(stores.tasks, task, worker="other")
    assert again.task.suspect
    ending = answered(task)
    await stores.tasks.finish(again.lease, ending, running_seconds=0, last=LAST)
    ended = await stores.tasks.get("default", task.id)
    assert (ended.status, ended.suspect) == (TaskStatus.COMPLETED, False)
    (kept,) = await stores.tasks.steps("default", task.id)
    assert kept.attempt == again.lease.fence == 2


async def test_its_words_are_redacted_and_nothing_is_changed_where_that_fails(
    open_stores: OpenStores,
) -> None:
    stores = open_stores(redact=without_names)
    task, lease = await began(stores)
    bob = SPOKEN.model_copy(update={"said": "Hi Bob"})
    for step, ending in ((bob, answered(task)), (SPOKEN, answered(task, "To Bob"))):
        last = LastStep(step, EVENTS)
        with pytest.raises(RedactionFailed):
            await stores.tasks.finish(lease, ending, running_seconds=0, last=last)
        assert await stores.tasks.steps("default", task.id) == ()
        assert await said(stores) == []
    await stores.tasks.finish(lease, failed(), running_seconds=0, last=LAST)
    text = "Hi …\n\n[This turn failed before it ended.]"
    assert (await said(stores))[-1] == ("assistant", text)
