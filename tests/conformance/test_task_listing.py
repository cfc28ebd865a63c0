"""Listing tasks, on every store."""

from __future__ import annotations

import pytest

from orchestrator.errors import (
    InvalidInput,
)
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


async def test_a_made_up_cursor_is_refused(stores: Stores) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        await stores.tasks.list("default", TaskFilter(), cursor="nowhere")


async def test_a_listing_longer_than_a_read_is_read_to_its_end(stores: Stores) -> None:
    await submitted(stores.tasks, tags=("rare",), agent_name="other")
    await stores.tasks.create([Task(agent_name=AGENT) for _ in range(130)])
    page = await stores.tasks.list(
        "default", TaskFilter(status=TaskStatus.PENDING), limit=1000
    )
    assert len(page.tasks) == 131
    assert page.next_cursor is None
