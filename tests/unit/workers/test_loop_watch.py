"""A loop that is blocked is measured, and who blocks it is named while it does so."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

from orchestrator.loop_thread import LoopThread
from workers.loop_watch import (
    BLOCKED_SECONDS,
    LOOK_CLOSER_SECONDS,
    Culprit,
    LoopWatch,
)

PATIENCE_SECONDS = 30.0


@pytest.fixture
def watched() -> Iterator[LoopThread]:
    loop = LoopThread("watched")
    yield loop
    loop.close()


class Blocking:
    """A coroutine that blocks its loop until the test has seen enough."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.enough = threading.Event()

    async def __call__(self) -> None:
        self.task = asyncio.current_task()
        self.enough.wait(PATIENCE_SECONDS)

    def whose(self, task: asyncio.Task[object]) -> Culprit | None:
        if task is not self.task:
            return None
        return Culprit("task-1", "researcher", "sum_up")


async def test_who_blocks_the_loop_is_named_by_task_tool_and_line(
    watched: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    blocking = Blocking()
    watch = LoopWatch(watched.loop, whose=blocking.whose)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)  # its first call comes before the one that blocks
    blocked = asyncio.run_coroutine_threadsafe(blocking(), watched.loop)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not caplog.records:
                await asyncio.sleep(0.05)
        assert watch.report().lag_seconds >= BLOCKED_SECONDS
        await asyncio.sleep(3 * LOOK_CLOSER_SECONDS)
        assert len(caplog.records) == 1
        blocking.enough.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(caplog.records) < 2:
                await asyncio.sleep(0.05)
    watching.cancel()
    blocked.result(PATIENCE_SECONDS)
    told, moves = caplog.records
    assert (told.task_id, told.agent, told.step) == (  # type: ignore[attr-defined]
        "task-1",
        "researcher",
        "sum_up",
    )
    assert "wait" in told.at  # type: ignore[attr-defined]
    assert moves.getMessage() == "event loop moves again"
    assert watch.report().blocked == 1


async def test_code_that_no_task_runs_is_named_by_its_line(
    watched: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    """Receivers of Celery's signals are called so."""
    blocking = Blocking()
    watch = LoopWatch(watched.loop, whose=lambda _: None)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    watched.loop.call_soon_threadsafe(blocking.enough.wait, PATIENCE_SECONDS)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not caplog.records:
                await asyncio.sleep(0.05)
    blocking.enough.set()
    watching.cancel()
    (told,) = caplog.records
    assert (told.task_id, told.step) == (None, "no task")  # type: ignore[attr-defined]
    assert "wait" in told.at  # type: ignore[attr-defined]


async def test_a_busy_loop_is_late_but_nobody_is_blamed(
    watched: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    enough = threading.Event()

    async def busy() -> None:
        while not enough.is_set():
            threading.Event().wait(0.02)
            await asyncio.sleep(0)

    def busy_without_a_task() -> None:
        threading.Event().wait(0.02)
        if not enough.is_set():
            watched.loop.call_soon(busy_without_a_task)

    watch = LoopWatch(watched.loop, whose=lambda _: None)
    watching = asyncio.create_task(watch.run())
    for _ in range(8):
        watched.loop.call_soon_threadsafe(busy_without_a_task)
    tasks = [asyncio.run_coroutine_threadsafe(busy(), watched.loop) for _ in range(8)]
    lags: list[float] = []
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(lags) < 3 or max(lags) == 0:
                await asyncio.sleep(0.3)
                lags.append(watch.report().lag_seconds)
    enough.set()
    watching.cancel()
    for task in tasks:
        task.result(PATIENCE_SECONDS)
    assert not caplog.records
