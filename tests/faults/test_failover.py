"""B: a primary that dies, and the replica that takes its place and its address."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.fleet import choose, running_fleet
from tests.faults.invariants import broken_invariants
from tests.faults.restartable_redis import RestartableRedis
from tests.integration.redis_server import free_port

pytestmark = pytest.mark.timeout(120)

UNTIL_PROMOTED_SECONDS = 2.0


@contextmanager
def primary_and_replica() -> Iterator[tuple[RestartableRedis, RestartableRedis]]:
    """A server and its copy; the copy is whole before anybody writes."""
    port = free_port()
    primary = RestartableRedis(port=port)
    replica = RestartableRedis("--replicaof", "127.0.0.1", str(port))
    try:
        primary.start()
        replica.start()
        yield primary, replica
    finally:
        replica.close()
        primary.close()


def promote(replica: RestartableRedis, primary: RestartableRedis) -> None:
    """Let a replica serve where the primary did."""
    with replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    replica.socket.replace(primary.socket)


@pytest.mark.parametrize(
    "pool", ["async", pytest.param("prefork", marks=pytest.mark.slow)]
)
async def test_runs_go_on_with_the_replica_that_takes_over(
    tmp_path: Path, pool: str
) -> None:
    with primary_and_replica() as (primary, replica):
        async with running_fleet(primary, tmp_path) as fleet:
            worker = await fleet.start_worker(*choose(pool))
            fleet.model.delay = lambda label, number: 1.0
            labels = [f"t{number}" for number in range(8)]
            for label in labels:
                await fleet.submit(label, turns=3)
            await fleet.until(lambda: len(fleet.model.requests) >= 6)
            with primary.client() as client:
                assert client.execute_command("WAIT", 1, 10_000) == 1
            primary.kill()
            await asyncio.sleep(UNTIL_PROMOTED_SECONDS)
            promote(replica, primary)
            await fleet.all_ended(45)
            await fleet.submit("afterwards")
            await fleet.all_ended(20)
            assert await broken_invariants(fleet) == []
            assert worker.process.poll() is None
            asked = fleet.model.counts()
            assert {label for label, _ in asked} == {*labels, "afterwards"}
            assert max(asked.values()) <= 2
