"""A run's first step that is marked with its claim, on every store."""

from __future__ import annotations

import pytest

from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.store import Claim, FirstStep, Started, TaskStore
from orchestrator.task import Task
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import AGENT, WORKER, claim, submitted

START = StepStart(key="completion:1", kind=StepKind.COMPLETION)
FIRST = FirstStep(START, frozenset({AGENT}))


async def claimed(
    store: TaskStore, task: Task, first: FirstStep | None = FIRST, **options: object
) -> Claim:
    found = await store.claim(
        task.tenant,
        task.id,
        **{"worker": WORKER, "serves": ["other", AGENT, "another"]} | options,
        lease_seconds=30,
        first=first,
    )
    assert isinstance(found, Claim), found
    return found


async def test_it_is_marked_and_no_outcome_of_an_earlier_attempt(
    stores: Stores,
) -> None:
    task = await submitted(stores.tasks)
    found = await claimed(stores.tasks, task)
    assert found.begun == Started(is_unknown=False, is_watched=False)
    assert found.starts == ()
    again = await stores.tasks.start_step(found.lease, START)
    assert not again.is_unknown
    await stores.tasks.release(found.lease, running_seconds=0, reason="killed")
    second = await claim(stores.tasks, task)
    assert [(each.key, each.attempt) for each in second.starts] == [(START.key, 1)]
    assert (await stores.tasks.start_step(second.lease, START)).is_unknown
    assert (await stores.tasks.get("default", task.id)).maybe_paid == 1


async def test_it_tells_whether_somebody_follows_the_run(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    await stores.tasks.watch("default", task.id, seconds=60)
    found = await claimed(stores.tasks, task)
    assert found.begun == Started(is_unknown=False, is_watched=True)


@pytest.mark.parametrize(
    "first", [None, FirstStep(START, ()), FirstStep(START, {"other", "another"})]
)
async def test_it_is_marked_for_its_agents_alone(
    stores: Stores, first: FirstStep | None
) -> None:
    task = await submitted(stores.tasks)
    found = await claimed(stores.tasks, task, first)
    assert found.begun is None
    await stores.tasks.release(found.lease, running_seconds=0, reason="drained")
    assert (await claim(stores.tasks, task)).starts == ()


async def test_it_is_marked_in_a_first_attempt_alone(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    found = await claimed(stores.tasks, task)
    await stores.tasks.drop_start(found.lease, START.key)
    await stores.tasks.release(found.lease, running_seconds=0, reason="drained")
    again = await claimed(stores.tasks, task)
    assert (again.begun, again.starts) == (None, ())


async def test_it_is_marked_for_every_agent_that_begins_so(
    open_stores: OpenStores,
) -> None:
    stores = open_stores()
    agents = ["other", AGENT, "another"]
    for agent in agents:
        task = await submitted(stores.tasks, agent_name=agent)
        first = FirstStep(START, frozenset({"other", "another"}))
        found = await claimed(stores.tasks, task, first)
        assert (found.begun is not None) == (agent != AGENT)


async def test_its_record_replaces_the_mark(stores: Stores) -> None:
    task = await submitted(stores.tasks)
    found = await claimed(stores.tasks, task)
    step = Step(key=START.key, kind=StepKind.COMPLETION, outcome="said")
    await stores.tasks.record_step(found.lease, step)
    await stores.tasks.release(found.lease, running_seconds=0, reason="drained")
    again = await claim(stores.tasks, task)
    assert [each.outcome for each in again.steps] == ["said"]
    assert again.starts == ()
