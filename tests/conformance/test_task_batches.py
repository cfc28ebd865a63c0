"""Many tasks in one create: as if each had come alone, in their order."""

from __future__ import annotations

import pytest

from conversations.errors import ConversationBusy
from orchestrator.errors import IdempotencyConflict
from orchestrator.store import Creation, RefusalReason, TaskFilter
from orchestrator.task import Task, TaskStatus
from orchestrator.task_specification import specification
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    event_types,
    submit,
    try_claim,
)

MANY = 250
"""More than one call of the Redis store takes."""


def made(**fields: object) -> Task:
    return Task.model_validate({"agent_name": AGENT, **fields})


def creations(answers: tuple[Creation | Exception, ...]) -> list[Creation]:
    assert all(isinstance(answer, Creation) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Creation)]


async def test_many_tasks_are_accepted_in_their_order(stores: Stores) -> None:
    tasks = [made(input={"number": number}) for number in range(MANY)]
    answers = creations(await stores.tasks.create(tasks))
    assert [answer.task.id for answer in answers] == [task.id for task in tasks]
    assert all(answer.created for answer in answers)
    page = await stores.tasks.list("default", TaskFilter(), limit=1000)
    assert [task.id for task in page.tasks] == [task.id for task in reversed(tasks)]
    for task in (tasks[0], tasks[99], tasks[100], tasks[-1]):
        stored = await stores.tasks.get("default", task.id)
        assert stored.input == task.input
        assert await event_types(stores.tasks, task) == ["task.created", "task.queued"]


async def test_each_of_many_tenants_finds_only_its_own(stores: Stores) -> None:
    tasks = [made(tenant=f"tenant-{number % 3}") for number in range(30)]
    creations(await stores.tasks.create(tasks))
    for number in range(3):
        page = await stores.tasks.list(f"tenant-{number}", TaskFilter(), limit=100)
        expected = [task.id for task in reversed(tasks[number::3])]
        assert [task.id for task in page.tasks] == expected


async def test_one_that_is_refused_stands_in_nobodys_way(stores: Stores) -> None:
    await submit(stores.tasks, idempotency_key="taken", input={"a": 1})
    await submit(stores.tasks, conversation_id="talk")
    answers = await stores.tasks.create(
        [
            made(),
            made(idempotency_key="taken", input={"a": 2}),
            made(conversation_id="talk", when_busy="reject"),
            made(),
        ]
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [Creation, IdempotencyConflict, ConversationBusy, Creation]


async def test_equal_requests_of_one_batch_are_one_task(stores: Stores) -> None:
    keyed = [made(idempotency_key="once", input={"a": 1}) for _ in range(3)]
    cached = [made(cache_ttl_seconds=60, input={"b": 1}) for _ in range(3)]
    answers = creations(await stores.tasks.create([*keyed, *cached]))
    ids = [answer.task.id for answer in answers]
    assert ids == [keyed[0].id] * 3 + [cached[0].id] * 3
    assert [answer.created for answer in answers] == [True, False, False] * 2
    page = await stores.tasks.list("default", TaskFilter(), limit=100)
    assert len(page.tasks) == 2


async def test_a_batch_may_follow_its_own_tasks(stores: Stores) -> None:
    first, second = made(), made()
    last = made(after=(first.id, second.id))
    creations(await stores.tasks.create([first, second, last]))
    for task in (first, second):
        assert await try_claim(stores.tasks, last) is RefusalReason.NOT_DUE
        held = await claim(stores.tasks, task)
        await stores.tasks.finish(held.lease, completed(held.lease), running_seconds=1)
    assert (await claim(stores.tasks, last)).task.id == last.id


@pytest.mark.parametrize("rule", ["interrupt", "rollback"])
async def test_a_turn_ends_those_before_it_in_its_batch(
    stores: Stores, rule: str
) -> None:
    turns = [made(conversation_id="talk") for _ in range(3)]
    newest = made(conversation_id="talk", when_busy=rule)
    beside = made()
    creations(await stores.tasks.create([*turns, newest, beside]))
    for turn in turns:
        task = await stores.tasks.get("default", turn.id)
        assert task.status is TaskStatus.CANCELLED
    page = await stores.tasks.list(
        "default", TaskFilter(status=TaskStatus.PENDING), limit=100
    )
    assert [task.id for task in page.tasks] == [beside.id, newest.id]
    assert (await claim(stores.tasks, newest)).task.id == newest.id
    assert (await claim(stores.tasks, beside)).task.id == beside.id


async def test_the_window_is_kept_and_the_rest_follows(stores: Stores) -> None:
    tasks = [made() for _ in range(MANY)]
    answers = creations(await stores.tasks.create(tasks))
    rung = [bell.task_id for answer in answers for bell in answer.doorbells]
    assert rung == [task.id for task in tasks[: len(rung)]]
    assert 0 < len(rung) < MANY
    held = await claim(stores.tasks, tasks[0])
    assert [bell.task_id for bell in held.doorbells] == [tasks[len(rung)].id]


async def test_a_batch_may_name_a_task_twice(stores: Stores) -> None:
    first, other = made(input={"a": 1}), made()
    twice = [first, other, first, first.model_copy(update={"input": {"a": 2}})]
    answers = await stores.tasks.create(twice)
    assert [creation.created for creation in creations(answers[:3])] == [
        True,
        True,
        False,
    ]
    assert isinstance(answers[3], IdempotencyConflict)
    page = await stores.tasks.list("default", TaskFilter(), limit=100)
    assert [task.id for task in page.tasks] == [other.id, first.id]


async def test_what_differs_within_a_batch_is_each_tasks_own(stores: Stores) -> None:
    """Agents, priorities, limits and tags alternate, so that nothing is told once."""
    tasks = [
        made(
            agent_name=("one", "two")[number % 2],
            priority=number % 4,
            queue=("celeriac", "other")[number % 3 == 0],
            time_limit_seconds=(None, 5.0)[number % 5 == 0],
            tags=("even",) if number % 2 == 0 else (),
            deadline_seconds=60.0 if number == 7 else None,
        )
        for number in range(20)
    ]
    creations(await stores.tasks.create(tasks, are_new=True))
    for task in tasks:
        stored = await stores.tasks.get("default", task.id)
        assert specification(stored) == specification(task)
    for name in ("one", "two"):
        page = await stores.tasks.list("default", TaskFilter(agent_name=name))
        assert len(page.tasks) == 10
    page = await stores.tasks.list("default", TaskFilter(tag="even"))
    assert [task.id for task in page.tasks] == [task.id for task in tasks[-2::-2]]
