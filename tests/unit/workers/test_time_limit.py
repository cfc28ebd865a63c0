"""A time limit ends what is awaited within it, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from workers.time_limit import TimeLimit


def soon() -> float:
    return asyncio.get_running_loop().time() + 0.01


async def limited(*limits: float) -> None:
    """Wait for ever within limits, the first one the innermost."""
    if not limits:
        await asyncio.get_running_loop().create_future()
        return
    with TimeLimit(limits[-1]):
        await limited(*limits[:-1])


async def test_what_takes_too_long_is_cancelled_and_the_task_goes_on():
    with pytest.raises(TimeoutError):
        await limited(soon())
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await asyncio.sleep(0)


async def test_a_limit_in_the_past_ends_what_waits():
    with pytest.raises(TimeoutError):
        await limited(0.0)


async def test_what_ends_in_time_is_not_cancelled_later():
    with TimeLimit(soon()):
        pass
    await asyncio.sleep(0.05)


async def test_no_limit_ends_nothing():
    with TimeLimit(None):
        await asyncio.sleep(0)


async def test_a_cancel_of_the_task_is_no_timeout():
    task = asyncio.create_task(limited(soon() + 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_in_the_turn_of_the_limit_is_no_timeout():
    task = asyncio.create_task(limited(0.0))  # its limit ends it in the next turn
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_outer_of_two_limits_ends_both():
    with pytest.raises(TimeoutError):
        await limited(soon() + 60, soon())


async def test_an_error_of_what_was_cancelled_is_its_own():
    async def breaks() -> None:
        with TimeLimit(soon()):
            try:
                await limited()
            except asyncio.CancelledError:
                raise KeyError from None

    with pytest.raises(KeyError):
        await breaks()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
