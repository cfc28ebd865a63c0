"""Messages of the right shape that lie, and books that somebody has lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from tests.faults.fleet import Fleet
from tests.faults.invariants import broken_invariants
from workers.task_message import parse_task_call

pytestmark = pytest.mark.timeout(120)

QUEUES = ("celeriac", *(f"celeriac\x06\x16{step}" for step in (3, 6, 9)))
LIES: tuple[list[Any], ...] = (
    [[], {"tenant": 5, "task_id": {"a": 1}}, {}],
    [[], {"tenant": None, "task_id": None}, {}],
    [[], {"tenant": "default", "task_id": "a b\nc"}, {}],
    [[], {"tenant": "_fleet", "task_id": "leases"}, {}],
    [[], {"tenant": "default", "task_id": "x" * 5000}, {}],
    [[], {"tenant": "default", "task_id": "unknown"}, {"chain": [{"task": "os"}]}],
    [[], {"tenant": "default", "task_id": "unknown", "extra": 1}, {}],
    [["default"], {}, {}],
    [[1, 2, 3, 4], {}, {}],
    [[], {}, {}],
)
"""Bodies that no one of us would send."""
BOOKS = ("rung:celeriac", "flow", "slots", "worker_slots", "queues", "shares:celeriac")


def message(body: list[Any], name: str) -> str:
    """A sound message of Celery's protocol 2 for our Celery task."""
    return json.dumps(
        {
            "body": json.dumps(body),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": "celeriac.run", "id": name},
            "properties": {"delivery_tag": name, "body_encoding": "utf-8"},
        }
    )


async def test_lies_in_the_queue_end_no_worker_and_begin_nothing(fleet: Fleet) -> None:
    worker = await fleet.start_worker()
    fleet.model.delay = lambda *_: 0.5
    handle = await fleet.submit("a")
    echo = [[], {"tenant": "default", "task_id": handle.id}, {}]
    with fleet.raw() as client:
        for queue in QUEUES:
            for number, lie in enumerate(LIES):
                raw = message(lie, f"lie-{number}")
                parse_task_call(raw.encode(), accept=None)  # it passes for one of ours
                client.lpush(queue, raw)
            client.lpush(queue, *[message(echo, handle.id)] * 20)
        await fleet.submit("b")
        await fleet.all_ended(60)
        await fleet.until(lambda: not any(client.llen(queue) for queue in QUEUES))
    assert worker.process.poll() is None
    assert (await handle.get()).attempt == 1
    assert await broken_invariants(fleet) == []


@pytest.mark.slow
async def test_tasks_end_although_their_books_and_queues_are_deleted(
    fleet: Fleet,
) -> None:
    """What an operator may delete who clears a broker by hand, at work."""
    await fleet.start_worker(slots=2)
    for number in range(100):
        await fleet.submit(f"t{number}", turns=0)

    def clear(client: redis.Redis) -> None:
        client.delete(*QUEUES, *(f"celeriac:_fleet:{book}" for book in BOOKS))

    with fleet.raw() as client:
        clear(client)
        await fleet.until(fleet.requested("t0"))
        clear(client)
    await fleet.all_ended(90)
    assert await broken_invariants(fleet) == []
