"""The reader of event logs between two viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from orchestrator.redis_log_watch import LogWatch

DEADLINE_SECONDS = 5.0


class GrownLogs:
    """A client whose logs have all grown; giving its connection back takes a while."""

    def __init__(self, at_return: Callable[[], Awaitable[None]]) -> None:
        self.at_return = at_return

    def client(self) -> GrownLogs:
        return self

    async def __aenter__(self) -> GrownLogs:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.at_return()

    async def client_id(self) -> int:
        return 1

    async def xread(self, logs: Mapping[str, str], **_: int) -> list[tuple[str, None]]:
        return [(key, None) for key in logs]


async def test_who_comes_while_the_connection_is_given_back_does_not_wait_in_vain() -> (
    None
):
    late: list[asyncio.Task[None]] = []

    async def come_late() -> None:
        if not late:
            late.append(asyncio.create_task(watch.wait("b", 0, seconds=3600)))
            while "b" not in watch._waiters:
                await asyncio.sleep(0)

    watch = LogWatch(GrownLogs(come_late))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await watch.wait("a", 0, seconds=3600)
        while not late:
            await asyncio.sleep(0)
        await late[0]
    await watch.aclose()


class OneRead(GrownLogs):
    """Notes what the first read asks for."""

    def __init__(self) -> None:
        async def nothing() -> None: ...

        super().__init__(nothing)
        self.asked: Mapping[str, str] = {}

    async def xread(self, logs: Mapping[str, str], **_: int) -> list[tuple[str, None]]:
        self.asked = self.asked or dict(logs)
        return await super().xread(logs)


async def test_viewers_of_one_log_are_woken_by_what_the_one_farthest_behind_lacks() -> (
    None
):
    client = OneRead()
    watch = LogWatch(client)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(
            *(watch.wait("a", last, seconds=3600) for last in (7, 3, 5))
        )
    assert client.asked == {"a": "0-3"}
    await watch.aclose()
