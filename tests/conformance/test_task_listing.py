"""Listing tasks, on every store."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys, redis_listing
from orchestrator.errors import (
    InvalidInput,
)
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Creation, TaskFilter
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    AGENT,
    submitted,
)


async def test_tasks_are_listed_newest_first_by_every_filter(stores: Stores) -> None:
    fields = [
        {"tags": ("red",)},
        {"tags": ("red", "blue"), "conversation_id": "c"},
        {"agent_name": "other"},
    ]
    first, second, third = [await submitted(stores.tasks, **each) for each in fields]
    await stores.tasks.cancel("default", first.id)

    async def listed(**wanted: object) -> list[str]:
        page = await stores.tasks.list("default", TaskFilter(**wanted))
        assert page.next_cursor is None
        return [task.id for task in page.tasks]

    assert await listed() == [third.id, second.id, first.id]
    assert await listed(tag="red") == [second.id, first.id]
    assert await listed(tag="r") == []
    assert await listed(agent_name="other") == [third.id]
    assert await listed(conversation_id="c") == [second.id]
    assert await listed(status=TaskStatus.CANCELLED) == [first.id]
    assert await listed(status=TaskStatus.PENDING, tag="red") == [second.id]
    assert await listed(status=TaskStatus.RUNNING) == []


async def test_tasks_are_listed_by_when_they_were_accepted(stores: Stores) -> None:
    """Also those of a burst, whose places run ahead of the clock."""
    creations = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(40)])
    burst = [each.task for each in creations if isinstance(each, Creation)]
    await asyncio.sleep(0.1)
    late = await submitted(stores.tasks, tags=("late",))
    first, last = burst[0].created_at, late.created_at
    assert first is not None
    assert last is not None

    async def listed(**wanted: object) -> list[str]:
        page = await stores.tasks.list("default", TaskFilter(**wanted), limit=200)
        return [task.id for task in page.tasks]

    assert await listed(created_after=last) == [late.id]
    assert await listed(created_after=last, tag="none") == []
    newest_first = [task.id for task in reversed(burst)]
    assert await listed(created_before=last) == newest_first
    assert await listed(created_after=first, created_before=last) == newest_first
    assert await listed(created_before=first) == []
    assert await listed(created_after=last + timedelta(days=1)) == []
    assert await listed(created_before=last, tag="late") == []


async def test_filters_together_find_what_has_every_field(stores: Stores) -> None:
    tasks = [
        await submitted(stores.tasks, tags=(f"t{n % 3}",), agent_name=f"a{n % 2}")
        for n in range(12)
    ]
    await stores.tasks.cancel("default", tasks[4].id)
    wanted = TaskFilter(agent_name="a0", tag="t1", status=TaskStatus.PENDING)
    page = await stores.tasks.list("default", wanted)
    assert [task.id for task in page.tasks] == [tasks[10].id]
    assert (
        await stores.tasks.list("default", TaskFilter(agent_name="a0", tag="t1"))
    ).tasks[1].id == tasks[4].id


async def test_pages_hold_each_task_once_while_others_are_added(
    stores: Stores,
) -> None:
    creations = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(25)])
    accepted = [each.task.id for each in creations if isinstance(each, Creation)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await stores.tasks.list(
            "default", TaskFilter(agent_name=AGENT), limit=10, cursor=cursor
        )
        seen += [task.id for task in page.tasks]
        await submitted(stores.tasks)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == accepted[::-1]


async def test_pages_of_large_tasks_are_shorter_and_hold_all(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_listing, "_MOST_BYTES", 10_000)
    sizes = [4_000, 10, 50_000, 10, 10, 4_000, 4_000, 4_000] + 30 * [10]
    tasks = [
        Task(agent_name=AGENT, input={"prompt": "x" * size}, tags=("red",))
        for size in sizes
    ]
    await stores.tasks.create(tasks)
    pages, cursor = [], None
    while not pages or cursor is not None:
        page = await stores.tasks.list(
            "default", TaskFilter(tag="red"), limit=100, cursor=cursor
        )
        pages.append([task.id for task in page.tasks])
        cursor = page.next_cursor
    assert all(pages[:-1])
    assert [each for page in pages for each in page] == [t.id for t in tasks[::-1]]
    in_memory = isinstance(stores.tasks, InMemoryTaskStore)
    assert (len(pages) == 1) is in_memory


@pytest.mark.parametrize("cursor", ["nowhere", "-1", "\u00b2", "9" * 5000])
async def test_a_made_up_cursor_is_refused(stores: Stores, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        await stores.tasks.list("default", TaskFilter(), cursor=cursor)


async def test_a_listing_longer_than_a_read_is_read_to_its_end(stores: Stores) -> None:
    await submitted(stores.tasks, tags=("rare",), agent_name="other")
    await stores.tasks.create([Task(agent_name=AGENT) for _ in range(130)])
    page = await stores.tasks.list(
        "default", TaskFilter(status=TaskStatus.PENDING), limit=1000
    )
    assert len(page.tasks) == 131
    assert page.next_cursor is None


async def test_places_that_ran_ahead_of_the_clock_hide_no_task_from_an_instant(
    stores: Stores,
) -> None:
    """Of a batch, all but the first stand at places of milliseconds to come."""
    made = await stores.tasks.create([Task(agent_name=AGENT) for _ in range(300)])
    *others, last = [each.task for each in made if isinstance(each, Creation)]
    for task in others:
        await stores.tasks.cancel("default", task.id)
        await stores.tasks.delete("default", task.id)
    before = last.created_at + timedelta(milliseconds=1)
    page = await stores.tasks.list("default", TaskFilter(created_before=before))
    assert [task.id for task in page.tasks] == [last.id]


async def test_ids_of_records_that_are_gone_leave_the_listing_that_was_read(
    client: Redis,
) -> None:
    store = RedisTaskStore(client)
    gone, kept = await submitted(store), await submitted(store)
    await client.delete(redis_keys.record("default", gone.id))
    page = await store.list("default", TaskFilter())
    assert [task.id for task in page.tasks] == [kept.id]
    assert await client.zrange(redis_keys.listing("default"), 0, -1) == [kept.id]


def test_an_instant_without_a_time_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="created_after"):
        TaskFilter(created_after=datetime(2026, 3, 1))  # noqa: DTZ001
