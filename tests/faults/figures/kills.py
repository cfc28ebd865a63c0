"""Many tasks at work while their processes are killed one after another.

Each kill takes a process at random: one of the pool's children, or a worker with all of
its children. What was lost, ended twice or paid again is read from records, event logs
and the endpoint's own log.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from orchestrator import EventType, TaskEvent, TaskStatus
from tests.faults.figures.report import EXTERNAL_KILLS, fresh_fleet, say, spread
from tests.faults.fleet import Fleet
from tests.faults.invariants import broken_invariants
from tests.faults.scripted_model import CountingModel
from tests.stand import RunningWorker

WORKERS, CHILDREN, TURNS = 3, 4, 2
OUTSTANDING = 24
"""Tasks that are accepted and not ended, at most: twice the slots."""
SETTLE_SECONDS = 180.0


class Kill(NamedTuple):
    """What was killed at once, and when."""

    pids: tuple[int, ...]
    at: float


async def measure(*, tasks: int, kills: int, seed: int, pause: float) -> None:
    model = CountingModel(seed=seed)
    model.delay = lambda label, number: model.random.uniform(0.1, 0.6)
    async with fresh_fleet(model=model, **EXTERNAL_KILLS) as fleet:
        for _ in range(WORKERS):
            await _start(fleet, wait=True)
        started = time.monotonic()
        killed: list[Kill] = []
        submitting = asyncio.create_task(
            _submit(fleet, tasks, lambda: len(killed) / kills)
        )
        chance = random.Random(seed)  # noqa: S311
        while len(killed) < kills:
            await asyncio.sleep(chance.uniform(0.5, 1.5) * pause)
            await _kill_one(fleet, killed, chance)
        await submitting
        await fleet.all_ended(SETTLE_SECONDS)
        seconds = time.monotonic() - started
        await _judge(fleet, killed, seconds)


async def _start(fleet: Fleet, *, wait: bool = False) -> RunningWorker:
    return await fleet.start_worker("--pool", "prefork", slots=CHILDREN, wait=wait)


async def _submit(fleet: Fleet, tasks: int, killed: Callable[[], float]) -> None:
    """Keep tasks at work as long as there are processes to be killed."""
    open_ids: set[str] = set()
    for number in range(tasks):
        while len(open_ids) >= OUTSTANDING or number > killed() * tasks + OUTSTANDING:
            await asyncio.sleep(0.2)
            for task_id in [*open_ids]:
                if (await fleet.celeriac.get(task_id)).status.is_terminal:
                    open_ids.discard(task_id)
        open_ids.add((await fleet.submit(f"t{number}", turns=TURNS)).id)


async def _kill_one(fleet: Fleet, killed: list[Kill], chance: random.Random) -> None:
    """Kill a child of the pool, or a worker with all of its children.

    Only of a worker that is up: one that loses a child while it starts exits by itself,
    and is started again as a supervisor would.
    """
    for gone in [w for w in fleet.stand.workers if w.process.poll() is not None]:
        fleet.stand.workers.remove(gone)
        await _start(fleet)
    up = [worker for worker in fleet.stand.workers if " ready." in worker.text()]
    if not up:
        return
    worker = chance.choice(up)
    children = _children(worker.pid)
    child = chance.choice([0, *children])
    if child:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            killed.append(Kill((child,), time.time()))
        return
    os.killpg(worker.pid, signal.SIGKILL)
    killed.append(Kill((worker.pid, *children), time.time()))
    await asyncio.to_thread(worker.wait)


def _children(pid: int) -> list[int]:
    """The living children, whichever of the process's threads has forked them."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, thread.read_text().split())
    return [child for child in found if _lives(child)]


def _lives(pid: int) -> bool:
    """Whether it is no zombie that waits for its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def _judge(fleet: Fleet, killed: list[Kill], seconds: float) -> None:
    records = [await fleet.record(label) for label in fleet.accepted]
    statuses = Counter(record.status for record in records)
    lost = sum(not record.status.is_terminal for record in records)
    broken = await broken_invariants(fleet)
    twice = sum("ends [" in problem for problem in broken)
    paid = sum("after it was recorded" in problem for problem in broken)
    requests, steps = len(fleet.model.requests), len(records) * (TURNS + 1)
    whole = sum(len(kill.pids) > 1 for kill in killed)
    say(
        f"kills: {len(killed)} ({whole} of a whole worker) over {len(records)} tasks in"
        f" {seconds:.0f} s: {lost} lost, {twice} ended twice, {paid} finished"
        f" completions repeated; {requests - steps} of {requests} requests were in"
        f" flight at a kill; {statuses[TaskStatus.COMPLETED]} completed"
    )
    for problem in broken[:20]:
        say(f"  broken: {problem}")
    gaps = [
        gap
        for task_id in fleet.accepted.values()
        for gap in await _gaps(fleet, task_id, killed)
    ]
    say(f"kills: from a kill to the run's next attempt: {spread(gaps)}")


async def _gaps(fleet: Fleet, task_id: str, killed: list[Kill]) -> list[float]:
    """Seconds from each kill that met the task to its next start."""
    events = [event async for event in fleet.celeriac.events(task_id)]
    starts = [event for event in events if event.type is EventType.TASK_STARTED]
    return [
        later.at.timestamp() - at
        for start, later in pairwise(starts)
        if (at := _killed_at(start, later, killed)) is not None
    ]


def _killed_at(start: TaskEvent, later: TaskEvent, killed: list[Kill]) -> float | None:
    pid = int(str(start.data["worker"]).split(":")[1])
    times = [
        kill.at
        for kill in killed
        if pid in kill.pids and start.at.timestamp() <= kill.at <= later.at.timestamp()
    ]
    return times[0] if times else None
