"""B: a Redis that hangs in a script, takes no connection, or has no disk left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from orchestrator.errors import OrchestratorError, StoreReadOnly
from tests.faults.fleet import Fleet, choose, running_fleet
from tests.faults.invariants import broken_invariants
from tests.faults.restartable_redis import RestartableRedis
from tests.faults.small_disk import filled, small_disk

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

Trouble = Callable[[RestartableRedis], AbstractContextManager[None]]
BEYOND_THE_LEASE_SECONDS = 8.0


@pytest.mark.parametrize("pool", ["async", "prefork"])
@pytest.mark.parametrize("trouble", [RestartableRedis.hung, RestartableRedis.crowded])
async def test_a_redis_in_trouble_costs_no_finished_step_and_no_worker(
    fleet: Fleet, trouble: Trouble, pool: str
) -> None:
    worker = await fleet.start_worker(*choose(pool), slots=3)
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b", "c"):
        await fleet.submit(label, turns=2)
    await fleet.until(lambda: len(fleet.model.requests) >= 3)
    with trouble(fleet.server):
        until = time.monotonic() + BEYOND_THE_LEASE_SECONDS
        while time.monotonic() < until:
            with suppress(OrchestratorError):
                await fleet.submit("meanwhile", idempotency_key="meanwhile")
            await asyncio.sleep(0.5)
    await fleet.submit("afterwards")
    await fleet.all_ended(60)
    assert set(fleet.model.counts().values()) == {1}
    assert [(await fleet.record(label)).attempt for label in ("a", "b", "c")] == [1] * 3
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


async def test_a_disk_that_is_full_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """The append-only file cannot grow: writes are refused until it can."""
    with small_disk(8) as disk:
        server = RestartableRedis("--dir", str(disk))
        server.start()
        try:
            async with running_fleet(server, tmp_path) as fleet:
                await _fill_while_at_work(fleet, disk)
        finally:
            server.close()


async def _fill_while_at_work(fleet: Fleet, disk: Path) -> None:
    worker = await fleet.start_worker(*choose("async"))
    fleet.model.delay = lambda label, number: 1.0
    for label in ("a", "b", "c"):
        await fleet.submit(label, turns=2)
    await fleet.until(lambda: len(fleet.model.requests) >= 3)
    refusals: list[OrchestratorError] = []
    with filled(disk):
        until = time.monotonic() + BEYOND_THE_LEASE_SECONDS
        while time.monotonic() < until:
            try:
                await fleet.submit("meanwhile", idempotency_key="meanwhile")
            except OrchestratorError as exc:
                refusals.append(exc)
            await asyncio.sleep(0.2)
    assert refusals
    assert {type(exc) for exc in refusals} == {StoreReadOnly}
    assert "disk" in str(refusals[-1])
    await fleet.until(lambda: _takes_writes(fleet), 30)
    await fleet.submit("afterwards")
    await fleet.all_ended(60)
    assert set(fleet.model.counts().values()) == {1}
    assert await broken_invariants(fleet) == []
    assert worker.process.poll() is None


async def test_a_redis_that_a_full_disk_ended_goes_on_with_all_it_acknowledged(
    tmp_path: Path,
) -> None:
    """With `appendfsync always` Redis itself exits rather than lose a write."""
    with small_disk(8) as disk:
        server = RestartableRedis("--dir", str(disk), fsync="always")
        server.start()
        try:
            async with running_fleet(server, tmp_path) as fleet:
                worker = await fleet.start_worker(*choose("async"))
                fleet.model.delay = lambda label, number: 1.0
                for label in ("a", "b", "c"):
                    await fleet.submit(label, turns=2)
                await fleet.until(lambda: len(fleet.model.requests) >= 3)
                process = server.process
                assert process is not None
                with filled(disk):
                    await fleet.until(lambda: process.poll() is not None, 30)
                server.restart()
                await fleet.submit("afterwards")
                await fleet.all_ended(60)
                assert set(fleet.model.counts().values()) == {1}
                assert await broken_invariants(fleet) == []
                assert worker.process.poll() is None
        finally:
            server.close()


def _takes_writes(fleet: Fleet) -> bool:
    with suppress(Exception), fleet.server.client() as client:
        return bool(client.set("probe", "1", ex=1))
    return False
