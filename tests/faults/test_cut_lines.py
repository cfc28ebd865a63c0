"""B2: connections to Redis end in the middle of a command or an answer."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.task import TaskStatus
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import broken_invariants

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

LEAST_BYTES, MOST_BYTES = 1_000, 60_000


class CutLine:
    """Forwards a unix socket; ends each connection after a random number of bytes."""

    def __init__(self, target: Path, path: Path, chance: random.Random) -> None:
        self._target = target
        self._path = path
        self._chance = chance
        self.url = f"unix://{path}"
        self.cuts = 0
        self.is_cutting = asyncio.Event()
        """Scripts are larger than most connections live: they are loaded before."""

    async def __aenter__(self) -> CutLine:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        above, below = await asyncio.open_unix_connection(self._target)
        ratio = MOST_BYTES / LEAST_BYTES
        left = [int(LEAST_BYTES * ratio ** self._chance.random())]

        async def copy(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter
        ) -> None:
            while chunk := await source.read(65536):
                if self.is_cutting.is_set():
                    chunk, left[0] = chunk[: left[0]], left[0] - len(chunk)
                sink.write(chunk)
                await sink.drain()
                if left[0] <= 0:
                    self.cuts += 1
                    return

        ways = [
            asyncio.create_task(copy(reader, below)),
            asyncio.create_task(copy(above, writer)),
        ]
        with suppress(OSError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for each in (writer, below):
            each.transport.abort()


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
        line.is_cutting.set()
        for number in range(30):
            await fleet.submit(f"t{number}", turns=3)
        await fleet.all_ended(150)
        records = [await fleet.record(label) for label in fleet.accepted]
        assert {each.status for each in records} == {TaskStatus.COMPLETED}
        assert await broken_invariants(fleet) == []
        assert line.cuts > 3
        assert worker.process.poll() is None
