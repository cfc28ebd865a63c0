"""One timer ends whoever is late, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from orchestrator.shared_timeout import SharedTimeout

T = TypeVar("T")
LONG = 60.0
SHORT = 0.05


async def within(limit: SharedTimeout, call: Coroutine[Any, Any, T]) -> T:
    with limit.begin():
        return await call


async def never() -> None:
    await asyncio.Event().wait()


async def soon(value: str) -> str:
    await asyncio.sleep(0)
    return value


async def test_what_a_call_returns_or_raises_is_its_callers() -> None:
    limit = SharedTimeout(LONG, error=TimeoutError)
    assert await within(limit, soon("done")) == "done"

    async def fails() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await within(limit, fails())


async def test_who_is_late_is_cancelled_and_told() -> None:
    limit, ended = SharedTimeout(SHORT, error=TimeoutError), asyncio.Event()

    async def slow() -> None:
        try:
            await never()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await within(limit, slow())
    assert ended.is_set()
    assert await within(limit, soon("the task goes on")) == "the task goes on"


async def test_each_of_many_calls_has_its_own_time() -> None:
    limit, loop = SharedTimeout(SHORT, error=TimeoutError), asyncio.get_running_loop()

    async def waited() -> float:
        began = loop.time()
        with pytest.raises(TimeoutError):
            await within(limit, never())
        return loop.time() - began

    first = [asyncio.create_task(waited()) for _ in range(3)]
    assert await asyncio.gather(*(within(limit, soon(str(n))) for n in range(5)))
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    assert all(seconds >= SHORT for seconds in await asyncio.gather(*first, waited()))


async def test_one_timer_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, loop = SharedTimeout(LONG, error=TimeoutError), asyncio.get_running_loop()
    real, made = loop.call_at, list[float]()

    def counted(when: float, *rest: Any, **named: Any) -> asyncio.TimerHandle:
        made.append(when)
        return real(when, *rest, **named)

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(3):
        await asyncio.gather(*(within(limit, soon("x")) for _ in range(100)))
    assert len(made) == 1


async def test_a_callers_own_cancel_stays_one() -> None:
    caller = asyncio.create_task(
        within(SharedTimeout(LONG, error=TimeoutError), never())
    )
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_cancel_that_comes_with_the_end_of_time_is_no_timeout() -> None:
    limit = SharedTimeout(SHORT, error=TimeoutError)

    async def blocked() -> None:
        caller.cancel()
        await never()

    caller = asyncio.create_task(within(limit, blocked()))
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_each_event_loop_keeps_its_time() -> None:
    limit = SharedTimeout(SHORT, error=TimeoutError)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            asyncio.run(within(limit, never()))
        assert asyncio.run(within(limit, soon("in time"))) == "in time"
