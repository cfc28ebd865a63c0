"""A loop on a thread of its own: waits, interruptions, and code that wants to exit."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from orchestrator.loop_thread import LoopClosed, LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread("test")
    yield loop
    loop.close()


def test_it_returns_and_raises_what_the_coroutine_does(loop: LoopThread) -> None:
    async def value() -> int:
        return 7

    async def error() -> None:
        raise KeyError("x")

    assert loop.await_(value()) == 7
    with pytest.raises(KeyError):
        loop.await_(error())


def test_an_interrupted_wait_goes_on_only_after_the_coroutine_has_ended(
    loop: LoopThread,
) -> None:
    ended: list[str] = []

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            ended.append("ended")

    with pytest.raises(TimeoutError):
        loop.await_(slow_to_end(), timeout=0.05)
    assert ended == ["ended"]


def test_code_that_exits_does_not_take_the_loop_with_it(loop: LoopThread) -> None:
    async def leave() -> None:
        sys.exit(3)

    async def value() -> int:
        return 7

    with pytest.raises(SystemExit):
        loop.await_(leave())
    assert loop.await_(value()) == 7


def test_code_that_stops_its_loop_stops_nothing(loop: LoopThread) -> None:
    """Leases of its runs would be renewed for ever, and their limits kept by nobody."""

    async def stop() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return 7

    assert loop.await_(stop(), timeout=5) == 7
    loop.close()
    assert "test" not in [each.name for each in threading.enumerate()]


def test_whoever_calls_while_it_is_closed_is_answered() -> None:
    """A call behind the loop's last turn would wait for ever."""

    async def nothing() -> None: ...

    def call(loop: LoopThread, ends: list[str]) -> None:
        try:
            while True:
                loop.await_(nothing())
        except (CancelledError, LoopClosed) as exc:
            ends.append(type(exc).__name__)

    for _ in range(100):
        loop, ends = LoopThread("test"), list[str]()
        loop.await_(nothing())
        threads = [
            threading.Thread(target=call, args=(loop, ends), daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        loop.close()
        for thread in threads:
            thread.join(5)
        assert len(ends) == len(threads)


def test_of_two_that_close_it_at_once_one_does() -> None:
    """Each would cancel the other's, or wait behind the loop's last turn."""
    loop, errors = LoopThread("test"), list[Exception]()

    def close() -> None:
        try:
            loop.close()
        except (CancelledError, RuntimeError, TimeoutError) as exc:
            errors.append(exc)

    threads = [threading.Thread(target=close, daemon=True) for _ in range(3)]
    with loop._beginning:  # until all of them have found it alive
        for thread in threads:
            thread.start()
        threads[0].join(0.2)
    for thread in threads:
        thread.join(5)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)


def test_closing_cancels_what_runs_and_a_second_close_does_nothing() -> None:
    loop = LoopThread("test")
    cancelled = threading.Event()

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    started = asyncio.run_coroutine_threadsafe(run(), loop.loop)
    loop.await_(asyncio.sleep(0))
    loop.close()
    assert cancelled.is_set()
    assert started.cancelled()
    assert not loop.is_alive
    loop.close()
