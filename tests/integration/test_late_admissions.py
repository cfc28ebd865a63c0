"""An admission that is heard after its call was taken back, on a slower connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.budget import Account
from orchestrator.gate import GateLimits
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from tests.integration.test_gate_round_trips import ASK, LIMITS, Stand
from tests.redis_line import Ends, RedisLine


@dataclass
class SlowLine(RedisLine):
    """Keeps what one connection says for itself until it is let go."""

    kept: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    answered: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """What was kept has been heard."""
    _keeps: bool = field(default=False, init=False)
    _may_go: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def keep_next(self) -> None:
        self._keeps = True

    def let_go(self) -> None:
        self._may_go.set()

    async def join(self, client: Ends, server: Ends) -> None:
        with suppress(OSError):
            await asyncio.gather(
                self._commands(client.reader, server),
                self._answers(server.reader, client.writer),
            )

    async def _commands(self, reader: asyncio.StreamReader, server: Ends) -> None:
        while chunk := await reader.read(65536):
            keeps, self._keeps = self._keeps, False
            if keeps:
                self.kept.set()
                await self._may_go.wait()
            server.writer.write(chunk)
            await server.writer.drain()
        server.writer.close()

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            if self._may_go.is_set():
                self.answered.set()
            writer.write(chunk)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    ("limits", "is_of_a_tool"),
    [(LIMITS, False), (GateLimits(), False), (LIMITS, True)],
    ids=["gate and budget", "budget", "without a step"],
)
async def test_what_a_cancelled_completion_asked_for_grants_nothing_when_it_comes_late(
    clean_redis_url: str, tmp_path: Path, limits: GateLimits, is_of_a_tool: bool
):
    target, _, query = clean_redis_url.removeprefix("unix://").partition("?")
    async with SlowLine(Path(target), tmp_path / "line.sock") as line:
        client = connect(f"{line.url}?{query}")
        stand = await Stand.open(client, limits=limits, budget={"tokens": 10**6})
        tool_s = stand.provider.for_tool(may_park=True)
        await stand.context.complete(ASK)  # loads the scripts
        await tool_s.complete(ASK)
        account = Account(kind="task", name=stand.task.id)
        spent = await RedisBudget(client).spent("default", account)
        line.keep_next()
        ask = tool_s.complete(ASK) if is_of_a_tool else stand.context.complete(ASK)
        completing = asyncio.create_task(ask)
        async with asyncio.timeout(30):
            await line.kept.wait()
            completing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await completing
            await stand.governor.aclose()  # waits for what is taken back
            line.let_go()
            await line.answered.wait()
        left = await RedisBudget(client).spent("default", account)
        in_flight = await stand.in_flight()
        await client.aclose()
    assert left == spent
    assert in_flight == 0
