"""A loop that is blocked is measured, and who blocks it is named while it does so."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic

import pytest

from orchestrator.loop_thread import LoopThread
from workers.greenlet_bridge import GreenletLoop
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


@pytest.fixture
def greenlets() -> Iterator[GreenletLoop]:
    loop = GreenletLoop("watched")
    yield loop
    loop.close()


def calling(
    loop: GreenletLoop, function: Callable[..., object], *given: object
) -> None:
    """Call in a greenlet, which is the same one for each call that has ended."""
    call = partial(function, *given)
    body = loop.greenlets.calling(call, contextvars.copy_context())
    body.switch()
    loop.greenlets.take_back(body)


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


@pytest.mark.parametrize("place", ["callback", "greenlet"])
async def test_code_that_computes_through_calls_is_named_by_who_makes_them(
    greenlets: GreenletLoop, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """Its innermost function is another one at each look."""
    enough = threading.Event()

    def part(number: int) -> str:
        return json.dumps([number] * 100)

    def receiver() -> None:
        give_up_at = monotonic() + PATIENCE_SECONDS
        while not enough.is_set() and monotonic() < give_up_at:
            part(3)

    def in_greenlet() -> None:
        calling(greenlets, receiver)

    watch = LoopWatch(greenlets.loop, whose=lambda _: None)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    called = receiver if place == "callback" else in_greenlet
    greenlets.loop.call_soon_threadsafe(called)
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not caplog.records:
                await asyncio.sleep(0.05)
    enough.set()
    watching.cancel()
    (told,) = caplog.records
    assert told.at.endswith(" in receiver")  # type: ignore[attr-defined]
    assert "a receiver of Celery's signals" in told.getMessage()
    assert "tool" not in told.getMessage()


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
    with caplog.at_level(logging.WARNING):
        await has_been_late(watch)
    enough.set()
    watching.cancel()
    for task in tasks:
        task.result(PATIENCE_SECONDS)
    assert not caplog.records


async def test_a_greenlet_that_makes_many_short_calls_is_not_blamed(
    greenlets: GreenletLoop, caplog: pytest.LogCaptureFixture
) -> None:
    enough = threading.Event()

    def busy() -> None:
        for _ in range(150):
            calling(greenlets, threading.Event().wait, 0.02)
        if not enough.is_set():
            greenlets.loop.call_soon(busy)

    watch = LoopWatch(greenlets.loop, whose=lambda _: None)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    greenlets.loop.call_soon_threadsafe(busy)
    with caplog.at_level(logging.WARNING):
        await has_been_late(watch, seconds=2 * BLOCKED_SECONDS)
    enough.set()
    watching.cancel()
    assert not caplog.records


async def has_been_late(watch: LoopWatch, *, seconds: float = 0.0) -> None:
    lags: list[float] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(lags) < 3 or max(lags) <= seconds:
            await asyncio.sleep(0.3)
            lags.append(watch.report().lag_seconds)
