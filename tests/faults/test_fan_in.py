"""A worker dies between the end of the parts and what comes after them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from orchestrator import TaskStatus
from tests.faults.fleet import running_fleet
from tests.faults.invariants import broken_invariants
from tests.faults.redis_proxy import Boundary, RedisProxy, Side
from tests.faults.restartable_redis import RestartableRedis
from tests.faults.scripted_model import prompt

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

PARTS = 3


def request(label: str) -> dict[str, object]:
    return {"agent": "counter", "input": {"prompt": prompt(label, turns=0)}}


@pytest.mark.parametrize("broker_database", [None, 1])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_what_comes_after_many_tasks_is_done_once_although_its_bell_is_lost(
    server: RestartableRedis, tmp_path: Path, side: Side, broker_database: int | None
) -> None:
    """On another broker the end of the last part and the bell are two steps."""
    async with running_fleet(
        server, tmp_path, broker_database=broker_database
    ) as fleet:
        path = server.directory / "proxy.sock"
        async with RedisProxy(server.socket, path) as proxy:
            fleet.stand.environment["REDIS_URL"] = proxy.url
            # One slot: ends that come together would be one call, and fewer than PARTS.
            first = await fleet.start_worker("--pool", "threads", slots=1)
            proxy.hold(Boundary("finish", side, nth=PARTS))
            labels = [f"part{number}" for number in range(PARTS)]
            handles = await fleet.celeriac.submit_many(
                [request(label) for label in labels],
                then=[request("joined"), request("last")],
            )
            names = [*labels, "joined", "last"]
            fleet.accepted |= dict(
                zip(names, (handle.id for handle in handles), strict=True)
            )
            await asyncio.wait_for(proxy.reached.wait(), 40)
            assert (await handles[-1].get()).status is TaskStatus.PENDING
            first.signal(signal.SIGKILL)
            await asyncio.to_thread(first.wait)
            del fleet.stand.environment["REDIS_URL"]
        await fleet.start_worker("--pool", "threads")
        await fleet.all_ended(60)
        statuses = {label: (await fleet.record(label)).status for label in names}
        assert set(statuses.values()) == {TaskStatus.COMPLETED}, statuses
        assert (await fleet.record("joined")).after == tuple(
            fleet.accepted[label] for label in labels
        )
        counts = sorted(fleet.model.counts().values())
        # The part whose end was not written takes its answer along.
        assert counts == [1] * PARTS + ([1, 1] if side == "after" else [1, 2])
        assert await broken_invariants(fleet) == []
