"""C: names are not found any more, in the middle of the work and at its start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import AsyncOrchestrator, TaskFailed, TaskStatus, load_settings
from orchestrator.errors import StoreUnavailable
from tests.faults.fleet import Fleet, choose, running_fleet
from tests.faults.invariants import ANSWER_SECONDS, broken_invariants
from tests.faults.lost_names import breakable_names
from tests.faults.restartable_redis import RestartableRedis
from tests.integration.redis_server import free_port

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

BEYOND_THE_LEASE_SECONDS = 6.0
NOWHERE = "no-such-host.invalid"


@pytest.fixture
async def named_fleet(tmp_path: Path) -> AsyncIterator[tuple[Fleet, Path]]:
    """Workers that find Redis and the endpoint by name, while a file is missing."""
    port = free_port()
    server = RestartableRedis(port=port)
    server.start()
    switch = tmp_path / "no-names"
    try:
        async with running_fleet(server, tmp_path) as fleet:
            stand = fleet.stand
            stand.environment |= breakable_names(tmp_path, switch)
            stand.environment["REDIS_URL"] = f"redis://localhost:{port}"
            stand.llm_url = stand.llm_url.replace("127.0.0.1", "localhost")
            yield fleet, switch
    finally:
        server.close()


@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_names_that_are_lost_for_a_while_cost_no_finished_step(
    named_fleet: tuple[Fleet, Path], pool: str
) -> None:
    fleet, switch = named_fleet
    worker = await fleet.start_worker(*choose(pool))
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b", "c"):
        await fleet.submit(label, turns=2)
    await fleet.until(lambda: len(fleet.model.requests) >= 3)
    switch.touch()
    fleet.server.cut_connections()
    await fleet.submit("meanwhile", turns=1)
    await asyncio.sleep(BEYOND_THE_LEASE_SECONDS)
    switch.unlink()
    await fleet.all_ended(60)
    records = [await fleet.record(label) for label in fleet.accepted]
    assert {record.status for record in records} == {TaskStatus.COMPLETED}
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


async def test_a_submit_to_a_host_that_nobody_knows_is_a_typed_error_at_once() -> None:
    settings = load_settings(storage={"redis_url": f"redis://{NOWHERE}:6379"})
    async with AsyncOrchestrator(settings) as celeriac:
        asked = time.monotonic()
        with pytest.raises(StoreUnavailable, match=NOWHERE):
            await celeriac.submit("assistant", {"prompt": "hello"})
        assert time.monotonic() - asked < ANSWER_SECONDS


async def test_an_endpoint_that_nobody_knows_fails_its_task_by_name(
    fleet: Fleet,
) -> None:
    fleet.stand.llm_url = f"http://{NOWHERE}/v1"
    await fleet.start_worker()
    handle = await fleet.celeriac.submit(
        "counter", {"prompt": "label=a turns=1"}, retry={"max_attempts": 1}
    )
    with pytest.raises(TaskFailed, match=NOWHERE):
        await handle.result(timeout=60)
    failure = (await handle.get()).failure
    assert failure is not None
    assert (failure.code, failure.retryable) == ("llm_unavailable", True)
