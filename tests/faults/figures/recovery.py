"""How long runs stand still after a fault, with default settings.

From the kill of a worker that holds many runs, or of a prefork child, to the next
claim; from the freeze of a worker, which only its leases tell, to the same; from the
moment that a restarted Redis answers to the next recorded step.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from orchestrator import EventType
from orchestrator.orchestrator import AsyncTaskHandle
from tests.faults.figures.report import EXTERNAL_KILLS, fresh_fleet, say, spread
from tests.faults.fleet import Fleet
from tests.stand import RunningWorker

ABOARD = 40
"""Runs that a worker holds when it is killed or frozen."""
STEP_SECONDS = 3.0
CHILDREN_PER_RUN = 5
"""A single run is lost with a prefork child, so more of them are needed for a p99."""
REDIS_AWAY_SECONDS = 12.0


async def measure(runs: int) -> None:
    await _measure_workers(runs, "kill -9 of a worker", _kill)
    await _measure_workers(runs, "a worker that freezes", _freeze)
    await _measure_children(CHILDREN_PER_RUN * runs)
    await _measure_redis(runs)


async def _measure_workers(
    runs: int, name: str, harm: Callable[[RunningWorker], None]
) -> None:
    seconds: list[float] = []
    async with fresh_fleet(**EXTERNAL_KILLS) as fleet:
        fleet.model.delay = lambda label, number: STEP_SECONDS
        for number in range(runs):
            victim = await fleet.start_worker(slots=ABOARD)
            handles = [
                await fleet.submit(f"w{number}-{n}", turns=1) for n in range(ABOARD)
            ]
            await fleet.until(_all_asked(fleet, number), 60)
            other = await fleet.start_worker(slots=ABOARD)
            harm(victim)
            harmed = time.time()
            starts = [await _second_start(fleet, handle) for handle in handles]
            seconds += [start - harmed for start in starts]
            await fleet.all_ended(60)
            for worker in (victim, other):
                await asyncio.to_thread(_end, worker)
                fleet.stand.workers.remove(worker)
    say(f"{name} with {ABOARD} runs, to each run's next attempt: {spread(seconds)}")


def _all_asked(fleet: Fleet, number: int) -> Callable[[], bool]:
    labels = {f"w{number}-{n}" for n in range(ABOARD)}
    return lambda: labels <= {request.label for request in fleet.model.requests}


def _kill(worker: RunningWorker) -> None:
    os.killpg(worker.pid, signal.SIGKILL)


def _freeze(worker: RunningWorker) -> None:
    os.killpg(worker.pid, signal.SIGSTOP)


def _end(worker: RunningWorker) -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


async def _measure_children(runs: int) -> None:
    seconds: list[float] = []
    async with fresh_fleet(**EXTERNAL_KILLS) as fleet:
        fleet.model.delay = lambda label, number: 1.0
        await fleet.start_worker("--pool", "prefork", slots=2)
        for number in range(runs):
            handle = await fleet.submit(f"c{number}", turns=1)
            await fleet.until(fleet.requested(f"c{number}"))
            holder = (await handle.get()).worker or ""
            os.kill(int(holder.split(":")[1]), signal.SIGKILL)
            killed = time.time()
            seconds.append(await _second_start(fleet, handle) - killed)
            await handle.result(timeout=60)
    say(f"kill -9 of a prefork child, to its run's next attempt: {spread(seconds)}")


async def _measure_redis(runs: int) -> None:
    seconds: list[float] = []
    async with fresh_fleet() as fleet:
        fleet.model.delay = lambda label, number: STEP_SECONDS
        await fleet.start_worker(slots=4)
        for number in range(runs):
            handle = await fleet.submit(f"r{number}", turns=3)
            await fleet.until(fleet.requested(f"r{number}"))
            fleet.server.kill()
            await asyncio.sleep(REDIS_AWAY_SECONDS)
            fleet.server.restart()
            seconds.append(await _next_record(handle, time.time()))
            await fleet.all_ended(60)
    away = f"Redis away for {REDIS_AWAY_SECONDS:.0f} s"
    say(f"{away}, from its answer to the next step: {spread(seconds)}")


async def _next_record(handle: AsyncTaskHandle, back: float) -> float:
    async for event in handle.events():
        at = event.at.timestamp()
        if event.type is EventType.COMPLETION_RECORDED and at >= back:
            return at - back
    raise AssertionError("ended without a further step")


async def _second_start(fleet: Fleet, handle: AsyncTaskHandle) -> float:
    async for event in fleet.celeriac.events(handle.id):
        if event.type is EventType.TASK_STARTED and event.attempt == 2:
            return event.at.timestamp()
    raise AssertionError("not started again")
