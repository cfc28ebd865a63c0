"""What durability costs: agent jobs on Redis less the same jobs on a store in memory.

`python -m benchmarks.durability [jobs] [rounds]`. Both workers have the same pool,
transport, executor and agent; only the store differs, so the difference is what claims,
leases, journals, events, turns and results cost. The worker's and Redis's processor
time, commands and bytes are told for each job and step. The rounds alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

import redis

from benchmarks.contenders import QUIET, Celeriac
from benchmarks.in_memory import ENDED, READY, app
from benchmarks.machinery import cpu_seconds, endpoint, process, scripts_called
from orchestrator.embedded import open_redis
from orchestrator.redis_keys import ENDED as ENDED_TASKS
from orchestrator.settings import load_settings

STEPS = 5
"""Of an agent job: three completions and two tool calls."""
SLOTS = 100
WARM = 100
PATIENCE_SECONDS = 120
NUMBERS = itertools.count()


class Spent(NamedTuple):
    """For one job: milliseconds of processor time, commands of Redis and bytes."""

    worker_ms: float
    redis_ms: float
    commands: float
    scripts: float
    bytes_in: float
    bytes_out: float


class Contender(Protocol):
    """One of the two workers, as the measurement sees it."""

    name: str
    db: redis.Redis
    environment: Mapping[str, str]

    def worker(self, slots: int) -> tuple[str, ...]: ...

    async def prepare(self, kind: str, numbers: Sequence[int]) -> None: ...

    async def submit(self, kind: str, numbers: Sequence[int]) -> list[Any]: ...

    async def wait(self, handles: Sequence[Any]) -> int: ...

    async def close(self) -> None: ...


class Durable(Celeriac):
    """As it is; looks rarely for the end, since Redis's commands are counted."""

    name = "store in Redis"
    environment: Mapping[str, str] = {}

    async def wait(self, handles: Sequence[Any]) -> int:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.db.zcard(ENDED_TASKS) < self.ended + len(handles):
                await asyncio.sleep(0.25)
        return len(handles)


class InMemory:
    """Tasks are prepared in the worker, and rung for by the same messages."""

    name = "store in memory"
    environment: Mapping[str, str] = {}

    def __init__(self, url: str) -> None:
        self.db = redis.Redis.from_url(url, socket_timeout=None)
        self._prepared: list[str] = []

    def worker(self, slots: int) -> tuple[str, ...]:
        command = ("celery", "-A", "benchmarks.in_memory", "worker")
        return (*command, "-c", str(slots), "-l", "WARNING", *QUIET)

    async def prepare(self, kind: str, numbers: Sequence[int]) -> None:
        self.db.delete(READY, ENDED)
        app.send_task("memory.prepare", args=[kind, list(numbers)], queue="celeriac")
        self._prepared = []
        while len(self._prepared) < len(numbers):
            found = self.db.blpop([READY], timeout=PATIENCE_SECONDS)
            assert found is not None, "the worker has prepared nothing"
            self._prepared.append(found[1].decode())

    async def submit(self, kind: str, numbers: Sequence[int]) -> list[Any]:
        with app.producer_or_acquire() as producer, producer.batch():
            for task_id in self._prepared:
                app.send_task(
                    "memory.run",
                    kwargs={"tenant": "default", "task_id": task_id},
                    task_id=task_id,
                    queue="celeriac",
                    ignore_result=True,
                    producer=producer,
                )
        return self._prepared

    async def wait(self, handles: Sequence[Any]) -> int:
        ended = await asyncio.to_thread(self.db.blpop, [ENDED], PATIENCE_SECONDS)
        assert ended is not None, "not all have ended"
        assert ended[1] == b"completed", ended
        return len(handles)

    async def close(self) -> None:
        self.db.close()


class Shared(InMemory):
    """The same without its copies: what a store that keeps nothing safe would cost."""

    name = "in memory, no copies"
    environment: Mapping[str, str] = {"IN_MEMORY_COPIES": "none"}


def _now(db: redis.Redis, pid: int) -> Spent:
    info = db.info()
    return Spent(
        worker_ms=cpu_seconds(pid) * 1000,
        redis_ms=(info["used_cpu_user"] + info["used_cpu_sys"]) * 1000,
        commands=info["total_commands_processed"],
        scripts=scripts_called(db.info("commandstats")),
        bytes_in=info["total_net_input_bytes"],
        bytes_out=info["total_net_output_bytes"],
    )


async def _spend(contender: Contender, count: int, pid: int) -> Spent:
    """Do so many jobs; the worker stands still while they are submitted."""
    numbers = [next(NUMBERS) for _ in range(count)]
    await contender.prepare("agent", numbers)
    os.kill(pid, signal.SIGSTOP)
    try:
        handles = await contender.submit("agent", numbers)
        before = _now(contender.db, pid)
    finally:
        os.kill(pid, signal.SIGCONT)
    await contender.wait(handles)
    after = _now(contender.db, pid)
    return Spent(*((b - a) / count for a, b in zip(before, after, strict=True)))


async def measure(contender: Contender, count: int, log: Path) -> Spent:
    """Start a worker, warm it, and measure it once."""
    with process(
        *contender.worker(SLOTS), env=dict(contender.environment), log=log
    ) as worker:
        await _spend(contender, WARM, worker.pid)
        spent = await _spend(contender, count, worker.pid)
    await contender.close()
    return spent


def _middle(rounds: Sequence[Spent]) -> Spent:
    return Spent(*(median(values) for values in zip(*rounds, strict=True)))


def _line(name: str, each: Spent) -> str:
    return (
        f"{name:<42}{each.worker_ms:7.2f} ms worker {each.redis_ms:6.2f} ms Redis"
        f" {each.commands:7.1f} commands {each.scripts:6.1f} scripts"
        f" {each.bytes_in:8.0f} B in {each.bytes_out:8.0f} B out\n"
    )


KINDS = (Durable, InMemory, Shared)


def main(count: int, rounds: int) -> None:
    found: dict[str, list[Spent]] = {}
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as name:
        directory = Path(name)
        log = directory / "log"
        with open_redis(directory / "redis") as server, endpoint(log) as (url, _):
            os.environ |= {"REDIS_URL": server.url, "OPENAI_BASE_URL": url}
            os.environ |= {"OPENAI_API_KEY": "none", "SLOTS": str(SLOTS)}
            broker = load_settings().storage.kombu_url
            app.conf.update(
                broker_url=broker, broker_read_url=broker, broker_write_url=broker
            )
            for _ in range(rounds):
                for kind in KINDS:
                    spent = asyncio.run(measure(kind(server.url), count, log))
                    found.setdefault(kind.name, []).append(spent)
    middles = {name: _middle(rounds) for name, rounds in found.items()}
    for title, each in middles.items():
        sys.stdout.write(_line(f"a job, {title}", each))
    durable = middles[Durable.name]
    for kind in KINDS[1:]:
        cost = [a - b for a, b in zip(durable, middles[kind.name], strict=True)]
        sys.stdout.write(_line(f"{Durable.name} less {kind.name}", Spent(*cost)))
        step = Spent(*(value / STEPS for value in cost))
        sys.stdout.write(_line(f"  each of {STEPS} steps", step))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability")
    parser.add_argument("jobs", type=int, nargs="?", default=500)
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    arguments = parser.parse_args()
    main(arguments.jobs, arguments.rounds)
