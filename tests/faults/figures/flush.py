"""The broker's database is flushed in the middle of a thousand tasks."""

from __future__ import annotations

import time

import redis

from orchestrator import EventType
from tests.faults.figures.report import fresh_fleet, say
from tests.faults.invariants import broken_invariants
from tests.faults.scripted_model import CountingModel

SLOTS, WORKERS, SETTLE_SECONDS = 20, 2, 300.0
BROKER_DATABASE = 1


async def measure(tasks: int) -> None:
    model = CountingModel(seed=1)
    model.delay = lambda label, number: model.random.uniform(0.3, 1.0)
    async with fresh_fleet(model=model, broker_database=BROKER_DATABASE) as fleet:
        broker = fleet.stand.broker_url
        assert broker is not None
        for _ in range(WORKERS):
            await fleet.start_worker(slots=SLOTS)
        for number in range(tasks):
            await fleet.submit(f"f{number}", turns=0)
        with redis.Redis.from_url(broker) as client:
            waiting = sum(client.llen(key) for key in _lists(client))
            with fleet.raw() as store:
                out = set(store.zrange("celeriac:_fleet:rung:celeriac", 0, -1))
            client.flushdb()
        flushed = time.time()
        await fleet.all_ended(SETTLE_SECONDS)
        lost = [name.split()[1] for name in out]
        starts = [await _started(fleet.celeriac, task_id) for task_id in lost]
        broken = await broken_invariants(fleet)
        say(
            f"broker flushed in the middle of {tasks} tasks: {waiting} messages lost,"
            f" all {len(fleet.accepted)} ended, the last lost one was dispatched again"
            f" {max(starts) - flushed:.1f} s later; broken: {broken[:5]}"
        )


def _lists(client: redis.Redis) -> list[bytes]:
    return list(client.scan_iter("celeriac*", _type="LIST"))


async def _started(celeriac: object, task_id: str) -> float:
    async for event in celeriac.events(task_id):  # type: ignore[attr-defined]
        if event.type is EventType.TASK_STARTED:
            return float(event.at.timestamp())
    raise AssertionError(task_id)
