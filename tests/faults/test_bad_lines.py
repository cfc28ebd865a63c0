"""B4, B12, C: a slow Redis, and connections that break in the middle of anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.errors import StoreUnavailable
from tests.faults.bad_line import BadLine
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import broken_invariants

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_a_slow_redis_delays_runs_and_costs_nothing(
    fleet: Fleet, pool: str
) -> None:
    path = fleet.server.directory / "slow.sock"
    async with BadLine(fleet.server.socket, path, delay_seconds=0.1) as line:
        fleet.stand.environment["REDIS_URL"] = line.url
        worker = await fleet.start_worker(*choose(pool))
        for number in range(8):
            await fleet.submit(f"t{number}", turns=2)
        await fleet.all_ended(120)
        records = [await fleet.record(label) for label in fleet.accepted]
        assert [(each.attempt, each.crashes) for each in records] == [(1, 0)] * 8
        assert set(fleet.model.counts().values()) == {1}
        assert await broken_invariants(fleet) == []
        assert worker.process.poll() is None


@pytest.mark.parametrize("pool", ["async", "prefork"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_connections_that_break_at_any_byte_lose_and_repeat_nothing(
    fleet: Fleet, pool: str, seed: int
) -> None:
    """A broken script call is asked again although it may have taken effect."""
    path: Path = fleet.server.directory / "cut.sock"
    line = BadLine(fleet.server.socket, path, longest_bytes=8_000_000, seed=seed)
    fleet.model.delay = lambda label, number: 0.2
    async with line:
        fleet.stand.environment["REDIS_URL"] = line.url
        worker = await fleet.start_worker(*choose(pool))
        before = line.cuts
        for number in range(30):
            label = f"t{number}"
            while label not in fleet.accepted:
                try:
                    await fleet.submit(label, turns=3, idempotency_key=label)
                except StoreUnavailable:
                    await asyncio.sleep(0.1)
        await fleet.all_ended(150)
        assert line.cuts - before > 5
        assert await broken_invariants(fleet) == []
        statuses = {(await fleet.record(label)).status for label in fleet.accepted}
        assert statuses == {"completed"}
        assert worker.process.poll() is None
