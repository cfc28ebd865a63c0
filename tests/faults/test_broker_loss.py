"""B: a broker that hands out twice what takes long, or loses all that it holds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from conversations.json_value import JsonObject
from tests.faults import short_visibility
from tests.faults.fleet import Fleet, running_fleet
from tests.faults.invariants import broken_invariants
from tests.faults.restartable_redis import RestartableRedis
from tests.faults.scripted_model import CountingModel
from tests.faults.test_process_death import celery_app
from workers.llm.double_script import HttpReply

pytestmark = pytest.mark.timeout(120)

BROKER_DATABASE = 1


class HeldModel(CountingModel):
    """Answers once it is released."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.released = asyncio.Event()

    async def __call__(self, body: JsonObject) -> HttpReply:
        reply = super().__call__(body)
        await self.released.wait()
        return reply


async def test_a_run_longer_than_the_visibility_timeout_is_run_once(
    server: RestartableRedis, tmp_path: Path
) -> None:
    source = Path(short_visibility.__file__)
    shutil.copy(source, tmp_path / source.name)
    modules = ("-I", f"fault_agents,{source.stem}")
    model = HeldModel()
    async with running_fleet(server, tmp_path, model=model) as fleet:
        await fleet.start_worker(*modules, slots=2)
        await fleet.submit("long", turns=0)
        await fleet.until(fleet.requested("long"))
        await asyncio.sleep(1.1 * short_visibility.VISIBLE_SECONDS)
        second = await fleet.start_worker(*modules, slots=2)
        await fleet.until(lambda: "ready." in second.text())
        with celery_app(fleet) as app:
            stats = app.control.inspect(timeout=10, limit=2).stats().values()
        options = [each["broker"]["transport_options"] for each in stats]
        assert [each["visibility_timeout"] for each in options] == [2, 2]
        model.released.set()
        await fleet.all_ended(20)
        assert (await fleet.record("long")).attempt == 1
        assert model.counts() == {("long", 1): 1}
        assert await broken_invariants(fleet) == []


@pytest.mark.slow
async def test_a_broker_that_is_flushed_in_the_midst_of_tasks_costs_none(
    server: RestartableRedis, tmp_path: Path
) -> None:
    """What runs goes on, and what was out or waits is rung for again."""
    model = CountingModel(seed=1)
    model.delay = lambda label, number: model.random.uniform(0.3, 1.0)
    async with running_fleet(
        server, tmp_path, model=model, broker_database=BROKER_DATABASE
    ) as fleet:
        for _ in range(2):
            await fleet.start_worker(slots=10)
        for number in range(200):
            await fleet.submit(f"f{number}", turns=1)
        await fleet.until(lambda: len(model.requests) >= 30)
        assert flush(fleet) > 0
        await fleet.all_ended(60)
        assert set(model.counts().values()) == {1}
        assert {(await fleet.record(label)).attempt for label in fleet.order} == {1}
        assert await broken_invariants(fleet) == []


@pytest.fixture
def broker() -> Iterator[RestartableRedis]:
    other = RestartableRedis()
    other.start()
    yield other
    other.close()


@pytest.mark.slow
async def test_a_broker_that_hangs_loses_no_task_and_holds_no_run(
    server: RestartableRedis, broker: RestartableRedis, tmp_path: Path
) -> None:
    """It takes connections and says nothing: who runs ends, the others wait for it."""
    model = HeldModel()
    async with running_fleet(server, tmp_path, model=model, broker=broker) as fleet:
        await fleet.start_worker(slots=4)
        for number in range(3):
            await fleet.submit(f"before-{number}", turns=1)
            await fleet.until(fleet.requested(f"before-{number}"))
        with broker.stopped():
            for number in range(3):
                handle = await fleet.submit(f"meanwhile-{number}", turns=1)
                assert "did not take the message" in str(handle.warning)
            model.released.set()
            for number in range(3):
                task_id = fleet.accepted[f"before-{number}"]
                await fleet.celeriac.result(task_id, timeout=20)
        await fleet.all_ended(60)
        assert set(model.counts().values()) == {1}
        assert {(await fleet.record(label)).attempt for label in fleet.order} == {1}
        assert await broken_invariants(fleet) == []


def flush(fleet: Fleet) -> int:
    """Empty the broker's database; returns how many messages were in it."""
    assert fleet.stand.broker_url is not None
    with redis.Redis.from_url(fleet.stand.broker_url) as client:
        queues = client.scan_iter("celeriac*", _type="LIST")
        messages = sum(client.llen(key) for key in queues)
        client.flushdb()
    return int(messages)
