"""`python -m benchmarks` (make bench): Celeriac beside Celery by hand and a bare loop.

Everything on this machine, with a scripted endpoint that answers after 200 ms: no model
is called. Trust ratios within one run. `--quick` takes a minute, the whole under ten.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import redis

from benchmarks.contenders import ByHand, Celeriac
from benchmarks.machinery import cpu_seconds, endpoint, process, pss_mib
from benchmarks.report import Row, draw, show
from benchmarks.tokens import measure_tokens
from orchestrator.embedded import open_redis

NUMBERS = itertools.count()
GAP_SECONDS = 0.02
SAMPLE_SECONDS = 0.5
"""Between two looks at the worker's memory; the most is told."""
LIGHT = 100
"""Tasks that are submitted one by one, to an idle worker."""


def redis_cpu(db: redis.Redis) -> float:
    used = db.info("cpu")
    return float(used["used_cpu_sys"]) + float(used["used_cpu_user"])


async def batch(
    contender: Celeriac | ByHand, kind: str, count: int, pid: int, slots: int
) -> Row:
    """Build a backlog before a stopped worker; measure from there to the last end."""
    numbers = [next(NUMBERS) for _ in range(count)]
    await contender.prepare(kind, numbers)
    before, stored = cpu_seconds(pid), redis_cpu(contender.db)
    os.kill(pid, signal.SIGSTOP)
    began = monotonic()
    try:
        handles = await contender.submit(kind, numbers)
        submitted = monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    began = monotonic()
    waiting = asyncio.create_task(contender.wait(handles))
    memory = 0.0
    while not waiting.done():
        await asyncio.wait({waiting}, timeout=SAMPLE_SECONDS)
        memory = max(memory, pss_mib(pid))
    running = await waiting
    return Row(
        contender=contender.name,
        slots=slots,
        kind=kind,
        count=count,
        seconds=monotonic() - began,
        submitted_per_second=count / submitted,
        cpu_ms=(cpu_seconds(pid) - before) / count * 1000,
        redis_ms=(redis_cpu(contender.db) - stored) / count * 1000,
        running=running,
        mib=memory,
    )


async def measure(
    contender: Celeriac | ByHand, slots: int, plan: list[tuple[str, int]], log: Path
) -> tuple[list[Row], list[float]]:
    rows: list[Row] = []
    waits: list[float] = []
    env = {"SLOTS": str(slots)}
    with process(*contender.worker(slots), env=env, log=log) as worker:
        await contender.prepare("noop", [])
        await contender.wait(await contender.submit("noop", [next(NUMBERS)]))
        warm = await contender.submit("completion", [next(NUMBERS) for _ in range(50)])
        await contender.wait(warm)
        idle = pss_mib(worker.pid)
        for kind, count in plan:
            rows.append(await batch(contender, kind, count, worker.pid, slots))
            rows[-1].idle_mib = idle
            print(f"  {rows[-1].contender} {slots} {kind}", file=sys.stderr)
        if isinstance(contender, Celeriac):
            handles = []
            for number in range(LIGHT):
                await asyncio.sleep(GAP_SECONDS)
                handles.append(await contender.submit_one(number))
            waits = [await contender.latency(handle) for handle in handles]
            if slots == 100:
                print(await measure_tokens(contender, worker.pid))
    await contender.close()
    return rows, sorted(waits)


def loop_rows(slots: int, plan: list[tuple[str, int]]) -> Iterator[Row]:
    for kind, count in plan:
        if kind == "noop":
            continue
        command = [sys.executable, "-m", "benchmarks.loop", kind, str(count)]
        told = subprocess.run(
            [*command, str(slots)], check=True, capture_output=True, text=True
        )
        facts: dict[str, Any] = json.loads(told.stdout)
        yield Row(
            contender="bare loop",
            slots=slots,
            kind=kind,
            count=count,
            seconds=facts["seconds"],
            cpu_ms=facts["cpu"] / count * 1000,
            running=facts["running"],
        )


def spread(seconds: list[float], what: str) -> str:
    """Say how long waits were; they are in order."""
    at = {name: seconds[int(len(seconds) * name / 100)] * 1000 for name in (50, 95, 99)}
    return f"{what}: " + ", ".join(f"p{name} {ms:.0f} ms" for name, ms in at.items())


def plans(quick: bool) -> list[tuple[int, list[tuple[str, int]]]]:
    if quick:
        return [(100, [("noop", 500), ("completion", 500), ("agent", 200)])]
    growth = [("noop", 500), ("noop", 2000), ("noop", 8000)]
    return [
        (10, [("noop", 500), ("completion", 200)]),
        (100, [*growth, ("completion", 2000), ("agent", 2000)]),
        (1000, [*growth, ("completion", 2000), ("agent", 2000)]),
        (5000, [("completion", 5000)]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", type=Path, help="write a picture of the table here")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as name:
        directory = Path(name)
        log = directory / "log"
        with open_redis(directory / "redis") as server, endpoint(log) as (url, pid):
            os.environ |= {"REDIS_URL": server.url, "OPENAI_BASE_URL": url}
            os.environ["OPENAI_API_KEY"] = "none"
            for slots, plan in plans(arguments.quick):
                found, waits = asyncio.run(
                    measure(Celeriac(server.url), slots, plan, log)
                )
                rows += found
                print(spread(waits, f"submit to start at {slots} slots"))
                if slots == 100:
                    by_hand = [step for step in plan if step[1] <= 2000]
                    rows += asyncio.run(
                        measure(ByHand(server.url), slots, by_hand, log)
                    )[0]
                used, began = cpu_seconds(pid), monotonic()
                rows += loop_rows(slots, plan)
                share = (cpu_seconds(pid) - used) / (monotonic() - began)
                print(f"endpoint busy under the bare loop at {slots}: {share:.1%}")
    print(show(rows))
    if arguments.plot:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
