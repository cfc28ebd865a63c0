"""What a streamed token costs with and without a viewer, and how soon it is seen.

A run that nobody watches does not ask its endpoint to stream. The endpoint writes the
instant of its sending into the first token, so the viewer knows how old it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from benchmarks.contenders import ANSWER_SECONDS, Celeriac
from benchmarks.endpoint import TOKENS
from benchmarks.machinery import cpu_seconds
from orchestrator.events import EventType
from orchestrator.orchestrator import AsyncTaskHandle

RUNS = 50
VIEWERS_SECONDS = 1.0
"""Until every viewer has said that it watches."""


@dataclass(kw_only=True)
class TokenCosts:
    """Per token; a run's other costs are in both of its halves."""

    unwatched_us: float
    watched_us: float
    viewer_us: float
    """Of the process that holds all viewers."""
    first_seen_ms: list[float]
    """From the endpoint's sending of the first token to the viewer's holding it."""

    def __str__(self) -> str:
        seen = sorted(self.first_seen_ms)
        p50, p95 = seen[len(seen) // 2], seen[int(len(seen) * 0.95)]
        return (
            f"a token of {RUNS} runs at once, CPU of the worker in microseconds:"
            f" {self.unwatched_us:.0f} without a viewer, {self.watched_us:.0f} with one"
            f" (+{self.watched_us - self.unwatched_us:.0f});"
            f" of the viewer {self.viewer_us:.0f}.\n"
            f"first token, sent to seen: p50 {p50:.0f} ms, p95 {p95:.0f} ms"
        )


async def measure_tokens(contender: Celeriac, pid: int) -> TokenCosts:
    unwatched, _, _ = await _stream(contender, pid, watched=False)
    watched, viewer, seen = await _stream(contender, pid, watched=True)
    per_token = 1e6 / (RUNS * TOKENS)
    return TokenCosts(
        unwatched_us=unwatched * per_token,
        watched_us=watched * per_token,
        viewer_us=viewer * per_token,
        first_seen_ms=seen,
    )


async def _stream(
    contender: Celeriac, pid: int, *, watched: bool
) -> tuple[float, float, list[float]]:
    """Return CPU of the worker and of the viewers, and how old first tokens were."""
    os.kill(pid, signal.SIGSTOP)
    try:
        handles = await contender.submit("tokens", range(RUNS))
        viewers = [asyncio.create_task(_view(h)) for h in handles if watched]
        await asyncio.sleep(VIEWERS_SECONDS if watched else 0)
    finally:
        os.kill(pid, signal.SIGCONT)
    used, own = cpu_seconds(pid), time.process_time()
    seen = await asyncio.gather(*viewers)
    own = time.process_time() - own
    await contender.wait(handles)
    return cpu_seconds(pid) - used, own, seen


async def _view(handle: AsyncTaskHandle) -> float:
    """Read to the end; return how old the first token was, in milliseconds."""
    age = 0.0
    async with asyncio.timeout(ANSWER_SECONDS):
        async for event in handle.events():
            if event.type is EventType.TEXT_DELTA and not age:
                sent = float(str(event.data["delta"]).split()[0])
                age = (time.time() - sent) * 1000
    return age
