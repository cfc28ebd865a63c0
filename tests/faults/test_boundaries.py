"""A2: a worker that is killed exactly between two things it does."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from tests.faults.fleet import Fleet
from tests.faults.invariants import broken_invariants
from tests.faults.redis_proxy import Boundary, RedisProxy

pytestmark = pytest.mark.timeout(120)

BOUNDARIES = {
    "message taken": (Boundary("pop", "after"), (1, 1), 1),
    "claimed": (Boundary("claim", "after"), (1, 1), 1),
    "completion answered": (Boundary("record_step", "before"), (2, 1), 1),
    "completion recorded": (Boundary("record_step", "after"), (1, 1), 1),
    "tool has acted": (Boundary("record_step", "before", nth=2), (1, 1), 2),
    "tool call recorded": (Boundary("record_step", "after", nth=2), (1, 1), 1),
    "last completion answered": (Boundary("finish", "before"), (1, 2), 1),
    "ended": (Boundary("finish", "after"), (1, 1), 1),
}
"""Where it dies; how often each completion is then requested, and the tool run."""
QUICK = ("completion recorded",)


@pytest.mark.parametrize(
    "place",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in BOUNDARIES
    ],
)
async def test_what_was_done_before_the_kill_is_not_done_again(
    fleet: Fleet, place: str
) -> None:
    boundary, requests, effects = BOUNDARIES[place]
    path = fleet.server.directory / "proxy.sock"
    async with RedisProxy(fleet.server.socket, path) as proxy:
        fleet.stand.environment["REDIS_URL"] = proxy.url
        first = await fleet.start_worker("--pool", "threads")
        proxy.hold(boundary)
        handle = await fleet.submit("a", turns=1)
        await asyncio.wait_for(proxy.reached.wait(), 20)
        del fleet.stand.environment["REDIS_URL"]
        await fleet.start_worker("--pool", "threads")
        first.signal(signal.SIGKILL)
        assert (await handle.result(timeout=40)).content == "done a"
    assert fleet.model.counts() == {("a", 1): requests[0], ("a", 2): requests[1]}
    lines = fleet.effects()
    assert Counter(line["step"] for line in lines) == {1: effects}
    assert len({line["key"] for line in lines}) == 1
    assert await broken_invariants(fleet) == []
