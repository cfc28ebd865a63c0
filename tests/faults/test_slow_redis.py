"""B4: a Redis that is slow to answer."""

from __future__ import annotations

import pytest

from tests.faults.bad_line import SlowLine
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import broken_invariants

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


@pytest.mark.parametrize("pool", ["async", "prefork"])
async def test_a_slow_redis_delays_runs_and_costs_nothing(
    fleet: Fleet, pool: str
) -> None:
    path = fleet.server.directory / "slow.sock"
    async with SlowLine(fleet.server.socket, path, delay_seconds=0.1) as line:
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
