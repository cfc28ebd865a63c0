"""How long a run stands still after a fault, with the default lease and heartbeat.

    python -m tests.faults.measure_recovery --runs 5

From the SIGKILL of a worker, or of a prefork child, to the claim by another process;
from the moment that a restarted Redis answers to the next recorded step.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator import EventType
from tests.faults.fleet import Fleet, running_fleet
from tests.faults.restartable_redis import RestartableRedis
from tests.stand import RunningWorker

DEFAULTS = {
    "CELERIAC_WORKER__LEASE": "10s",
    "CELERIAC_WORKER__HEARTBEAT": "3s",
    "CELERIAC_WORKER__MAX_CRASHES": "50",
}
Measure = Callable[[Fleet, RunningWorker, int], Awaitable[float]]


async def kill_worker(fleet: Fleet, worker: RunningWorker, number: int) -> float:
    handle = await fleet.submit(f"w{number}", turns=1)
    await fleet.until(fleet.requested(f"w{number}"))
    holder = (await handle.get()).worker
    assert holder is not None
    victim = int(holder.split(":")[1])
    os.kill(victim, signal.SIGKILL)
    killed = time.time()
    for found in fleet.stand.workers:
        if found.pid == victim:
            await asyncio.to_thread(found.wait)
    started = await second_start(fleet, handle.id)
    if worker.process.poll() is not None or victim in {
        found.pid for found in fleet.stand.workers
    }:
        await fleet.start_worker("--pool", "threads")
    return started - killed


async def kill_child(fleet: Fleet, worker: RunningWorker, number: int) -> float:
    handle = await fleet.submit(f"c{number}", turns=1)
    await fleet.until(fleet.requested(f"c{number}"))
    holder = (await handle.get()).worker
    assert holder is not None
    os.kill(int(holder.split(":")[1]), signal.SIGKILL)
    killed = time.time()
    return await second_start(fleet, handle.id) - killed


async def restart_redis(fleet: Fleet, worker: RunningWorker, number: int) -> float:
    handle = await fleet.submit(f"r{number}", turns=3)
    await fleet.until(fleet.requested(f"r{number}"))
    fleet.server.kill()
    await asyncio.sleep(12)
    fleet.server.restart()
    back = time.time()
    before = 0
    async for event in handle.events():
        before += event.at.timestamp() < back
        if event.type is EventType.COMPLETION_RECORDED and event.at.timestamp() >= back:
            return event.at.timestamp() - back
    raise AssertionError("ended without a further step")


async def second_start(fleet: Fleet, task_id: str) -> float:
    async for event in fleet.celeriac.events(task_id):
        if event.type is EventType.TASK_STARTED and event.attempt == 2:
            return event.at.timestamp()
    raise AssertionError("not started again")


async def measure(name: str, pool: str, run: Measure, runs: int) -> None:
    server = RestartableRedis()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as directory:
            async with running_fleet(
                server, Path(directory), environment=DEFAULTS
            ) as fleet:
                fleet.model.delay = lambda label, number: 2.0
                worker = await fleet.start_worker("--pool", pool, slots=2)
                if run is kill_worker:
                    await fleet.start_worker("--pool", pool, slots=2)
                seconds = [await run(fleet, worker, number) for number in range(runs)]
    finally:
        server.close()
    shown = ", ".join(f"{value:.1f}" for value in seconds)
    sys.stdout.write(
        f"{name}: p50 {statistics.median(seconds):.1f} s,"
        f" worst {max(seconds):.1f} s of {runs} ({shown})\n"
    )
    sys.stdout.flush()


async def main(runs: int) -> None:
    await measure("kill -9 of a worker (threads)", "threads", kill_worker, runs)
    await measure("kill -9 of a prefork child", "prefork", kill_child, runs)
    await measure("Redis away for 12 s", "threads", restart_redis, runs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    asyncio.run(main(parser.parse_args().runs))
