"""Schedules: one task for each tick, however many sweepers, on every store."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from conversations.message import Message
from orchestrator.schedule import DueSchedule, Schedule
from orchestrator.scheduler import submit_due
from orchestrator.store import TaskFilter
from orchestrator.task import Task
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import AGENT, until

EVERY_SECOND = "* * * * * *"


def schedule(name: str = "s", cron: str = EVERY_SECOND, **fields: object) -> Schedule:
    return Schedule(id=name, cron=cron, task=Task(agent_name=AGENT, **fields))


async def ticks(stores: Stores) -> list[str]:
    page = await stores.tasks.list("default", TaskFilter(), limit=1000)
    return [str(task.metadata["tick"]) for task in page.tasks]


async def test_every_tick_has_one_task_however_many_sweepers(stores: Stores) -> None:
    await stores.tasks.put_schedule(schedule())
    bells = 0

    async def two_ticks() -> bool:
        nonlocal bells
        rung = await asyncio.gather(*(submit_due(stores.tasks) for _ in range(5)))
        bells += sum(len(each.doorbells) for each in rung)
        return len(await ticks(stores)) >= 2

    await until(two_ticks)
    found = await ticks(stores)
    assert len(found) == len(set(found))
    assert bells >= 2


async def test_schedules_are_listed_with_their_next_tick_and_dropped(
    stores: Stores,
) -> None:
    await stores.tasks.put_schedule(schedule("b"))
    kept = await stores.tasks.put_schedule(schedule("a", "0 0 1 1 *"))
    assert kept.next_at is not None
    assert kept.next_at > datetime.now(UTC)
    listed = await stores.tasks.schedules("default")
    assert [each.id for each in listed] == ["a", "b"]
    assert listed[0] == kept
    assert await stores.tasks.schedules("acme") == ()
    assert not await stores.tasks.drop_schedule("acme", "a")
    assert await stores.tasks.drop_schedule("default", "a")
    assert not await stores.tasks.drop_schedule("default", "a")
    assert [each.id for each in await stores.tasks.schedules("default")] == ["b"]


async def due_one(stores: Stores) -> DueSchedule:
    """Return the only schedule once its tick has come."""

    async def is_due() -> bool:
        return bool(await stores.tasks.due_schedules())

    await until(is_due)
    (due,) = await stores.tasks.due_schedules()
    return due


async def test_a_schedule_that_was_changed_meanwhile_is_not_moved(
    stores: Stores,
) -> None:
    await stores.tasks.put_schedule(schedule())

    due = await due_one(stores)
    changed = await stores.tasks.put_schedule(schedule("s", "0 0 1 1 *"))
    assert not await stores.tasks.advance_schedule(due, next_at=datetime.now(UTC))
    assert await stores.tasks.schedules("default") == (changed,)


async def test_a_schedule_that_is_said_again_keeps_the_tick_that_is_due(
    stores: Stores,
) -> None:
    await stores.tasks.put_schedule(schedule())

    due = await due_one(stores)
    changed = schedule(input={"prompt": "anew"})
    again = await stores.tasks.put_schedule(changed)
    assert again.next_at == due.tick
    assert await stores.tasks.schedules("default") == (again,)
    await submit_due(stores.tasks)
    page = await stores.tasks.list("default", TaskFilter())
    assert page.tasks[-1].input == {"prompt": "anew"}
    assert page.tasks[-1].metadata["tick"] == due.tick.isoformat()
    due = await due_one(stores)
    other = schedule().model_copy(update={"time_zone": "Europe/Berlin"})
    moved = await stores.tasks.put_schedule(other)
    assert moved.next_at is not None
    assert moved.next_at > due.tick


async def test_a_refused_tick_does_not_stop_the_schedule(stores: Stores) -> None:
    refused = schedule(conversation_id="c", when_busy="reject")
    await stores.tasks.put_schedule(refused)

    async def moved_twice() -> bool:
        await submit_due(stores.tasks)
        (now,) = await stores.tasks.schedules("default")
        begun.append(now.next_at)
        return len(set(begun)) >= 4

    begun: list[datetime | None] = []
    await until(moved_twice)
    assert len(await ticks(stores)) == 1


async def test_a_tick_that_redaction_fails_on_keeps_no_other_schedule(
    open_stores: OpenStores,
) -> None:
    def broken(_: Message) -> Message:
        raise RuntimeError("out of order")

    stores = open_stores(redact=broken)
    await stores.tasks.put_schedule(schedule("a", conversation_id="c"))
    await stores.tasks.put_schedule(schedule("b"))
    (begun, _) = await stores.tasks.schedules("default")

    async def both_go_on() -> bool:
        await submit_due(stores.tasks)
        (first, _) = await stores.tasks.schedules("default")
        return bool(await ticks(stores)) and first.next_at != begun.next_at

    await until(both_go_on)
    page = await stores.tasks.list("default", TaskFilter())
    assert {task.metadata["schedule"] for task in page.tasks} == {"b"}
