"""A: the HTTP service is killed again and again while clients submit through it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter

import httpx
import pytest

from tests.faults.fleet import Fleet
from tests.faults.invariants import broken_invariants
from tests.faults.scripted_model import prompt
from tests.faults.test_redis_faults import all_keys
from tests.integration.test_http_processes import Replica, start_replica

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

SEED = int(os.environ.get("SEED", "8"))
CLIENTS = 8
KILLS = 4
PAUSE_SECONDS = 0.02


class Clients:
    """Submit one task after the other, each until it is accepted, to who is there."""

    def __init__(self, fleet: Fleet, replica: Replica) -> None:
        self.replica = replica
        self.ending = asyncio.Event()
        self.lost = 0
        self.statuses: Counter[int] = Counter()
        self._fleet = fleet

    async def run(self, number: int) -> None:
        async with httpx.AsyncClient(timeout=10) as client:
            for count in itertools.count():
                if self.ending.is_set():
                    return
                await self._submit(client, f"c{number}-{count}")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _submit(self, client: httpx.AsyncClient, label: str) -> None:
        body = {"agent": "counter", "input": {"prompt": prompt(label, turns=0)}}
        headers = {"Idempotency-Key": label}
        while True:
            url = f"{self.replica.url}/tasks"
            try:
                answer = await client.post(url, json=body, headers=headers)
            except httpx.TransportError:
                self.lost += 1
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            assert answer.status_code in (200, 202), answer.text
            self.statuses[answer.status_code] += 1
            self._fleet.accepted[label] = answer.json()["id"]
            return


async def test_an_http_service_that_is_killed_loses_no_task_and_makes_none_twice(
    fleet: Fleet,
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    await fleet.start_worker(slots=10)
    replica = await asyncio.to_thread(start_replica, fleet.stand, "0")
    clients = Clients(fleet, replica)
    running = asyncio.gather(*map(clients.run, range(CLIENTS)))
    try:
        for kill in range(1, KILLS + 1):
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            replica.stop()
            replica = await asyncio.to_thread(start_replica, fleet.stand, str(kill))
            clients.replica = replica
        clients.ending.set()
        async with asyncio.timeout(30):
            await running
    finally:
        running.cancel()
        replica.stop()
    assert clients.lost >= KILLS
    assert sorted(await all_keys(fleet.celeriac)) == sorted(fleet.accepted)
    assert len(set(fleet.accepted.values())) == len(fleet.accepted)
    await fleet.all_ended(60)
    assert set(fleet.model.counts().values()) == {1}
    assert await broken_invariants(fleet) == []
