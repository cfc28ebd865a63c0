"""Several coroutines run together, and none is left behind."""

from __future__ import annotations

import asyncio

import pytest

from workers.tools.concurrently import gather_or_cancel


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize("count", [0, 1, 2, 5])
async def test_results_come_in_order(count: int) -> None:
    numbers = range(count)
    assert await gather_or_cancel(give(number) for number in numbers) == [*numbers]


@pytest.mark.parametrize("others", [0, 1, 3])
async def test_an_error_or_a_cancel_ends_them_all(others: int) -> None:
    ended = 0
    begun = asyncio.Event()

    async def hang() -> None:
        nonlocal ended
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    async def fail() -> None:
        await begun.wait() if others else None
        raise LookupError

    with pytest.raises(LookupError):
        await gather_or_cancel([fail(), *(hang() for _ in range(others))])
    assert ended == others
    begun.clear()
    together = asyncio.get_running_loop().create_task(
        gather_or_cancel([hang() for _ in range(others + 1)])
    )
    await begun.wait()
    together.cancel()
    with pytest.raises(asyncio.CancelledError):
        await together
    assert ended == others + others + 1
