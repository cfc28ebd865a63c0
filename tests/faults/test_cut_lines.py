"""B2: connections to Redis end in the middle of a command or an answer."""

from __future__ import annotations

import random

import pytest

from orchestrator.task import TaskStatus
from tests.faults.bad_line import CutLine
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import broken_invariants

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


@pytest.mark.parametrize("pool", ["async", "threads"])
async def test_lines_that_are_cut_anywhere_lose_and_repeat_nothing(
    fleet: Fleet, pool: str
) -> None:
    path = fleet.server.directory / "cut.sock"
    line = CutLine(fleet.server.socket, path, random.Random(11))  # noqa: S311
    async with line:
        fleet.stand.environment["REDIS_URL"] = line.url
        worker = await fleet.start_worker(*choose(pool))
        first = await fleet.submit("first", turns=3)
        await first.result(timeout=30)
        line.is_cutting = True
        for number in range(30):
            await fleet.submit(f"t{number}", turns=3)
        await fleet.all_ended(150)
        records = [await fleet.record(label) for label in fleet.accepted]
        assert {each.status for each in records} == {TaskStatus.COMPLETED}
        assert await broken_invariants(fleet) == []
        assert line.cuts > 3
        assert worker.process.poll() is None
