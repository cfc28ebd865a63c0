"""The time limits of one call, and of reading its answer.

Knows neither requests nor what is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import StreamReader

from workers.errors import LLMUnavailable
from workers.llm.endpoint import Endpoint
from workers.time_limit import TimeLimit

T = TypeVar("T")


class CallClock:
    """The time limits of one call."""

    def __init__(self, endpoint: Endpoint, *, total_seconds: float) -> None:
        self._endpoint = endpoint
        self._total = total_seconds
        self._now = asyncio.get_running_loop().time
        self._started_at = self._now()

    def elapsed_seconds(self) -> float:
        """Since the call began."""
        return self._now() - self._started_at

    async def bound(self, awaitable: Awaitable[T], until_seconds: float) -> T:
        """Await at most until so many seconds after the call's begin, or its total.

        Raises:
            LLMUnavailable: the time is up.
        """
        limit = min(until_seconds, self._total)
        try:
            with TimeLimit(self._started_at + limit):
                return await awaitable
        except TimeoutError:
            pass
        # Raised out here, without a context: the frames that waited hold the headers.
        raise self._too_late(limit)

    def watch(self, body: StreamReader, *, until_seconds: float) -> Watch:
        """Have the reading of a body fail at that time, or at the call's total."""
        return Watch(self, body, until_seconds)

    def instant(self, until_seconds: float) -> float:
        """Return by the loop's clock when so many seconds, or the total, are over."""
        return self._started_at + min(until_seconds, self._total)

    def _too_late(self, seconds: float) -> LLMUnavailable:
        return LLMUnavailable(
            f"{self._endpoint.base_url} did not answer in time (gave up after"
            f" {seconds:.4g} s); use a faster model or raise the limits of the call",
            endpoint=self._endpoint.base_url,
        )

    def end(self, body: StreamReader, at: float) -> None:
        """Have whoever reads a body learn that its time is up."""
        body.set_exception(self._too_late(at - self._started_at))


class Watch:
    """The time limit of a body: one timer, however often the limit is moved.

    A timer for each piece would cost more than reading it. Only reading is bounded:
    what arrived while the reader did something else is still its own.
    """

    def __init__(self, clock: CallClock, body: StreamReader, until: float) -> None:
        self._clock = clock
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._at = clock.instant(until)
        self._last = clock.instant(float("inf"))
        self._is_reading = False
        self._timer = self._loop.call_at(self._at, self._look)

    def move(self, until_seconds: float) -> None:
        """Set another limit."""
        self._at = self._clock.instant(until_seconds)
        if self._at < self._timer.when():
            self._set()

    def extend(self, seconds: float) -> None:
        """Set a limit of so many seconds from now, or the call's total."""
        self._at = min(self._loop.time() + seconds, self._last)
        if self._at < self._timer.when():
            self._set()

    def begin(self) -> None:
        """Note that a piece of the body is awaited; the limit ends no other time."""
        self._is_reading = True
        if self._timer.when() <= self._loop.time():  # it came due while nobody read
            self._set()

    def pause(self) -> None:
        """Note that it is not."""
        self._is_reading = False

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _set(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        if self._loop.time() < self._at:
            self._set()
        elif self._is_reading:
            self._clock.end(self._body, self._at)
