"""Random faults over a system at work, and the same over stock Celery as a control."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

import pytest

from orchestrator import TaskStatus
from orchestrator.errors import StoreUnavailable
from tests.faults.chaos import Monkey
from tests.faults.fleet import Fleet, choose, running_fleet
from tests.faults.invariants import broken_invariants, broken_turns
from tests.faults.restartable_redis import RestartableRedis
from tests.faults.scripted_model import CountingModel
from tests.stand import Stand, wait_until

SEED = int(os.environ.get("SEED", "8"))
SECONDS = float(os.environ.get("SECONDS", "10"))
CONTROL_SECONDS = max(SECONDS, 30.0)
"""In ten, the faults of some seeds meet no task that stock Celery cannot save."""
WORKERS = 3
STEP_SECONDS = 0.3
TURNS = 3
SETTLE_SECONDS = 90.0

pytestmark = pytest.mark.timeout(CONTROL_SECONDS * 3 + 240)


@pytest.mark.parametrize(
    "pool",
    [
        "async",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("threads", "prefork")),
    ],
)
async def test_random_faults_lose_nothing_and_repeat_nothing(
    server: RestartableRedis, tmp_path: Path, pool: str
) -> None:
    model = CountingModel(seed=SEED)
    model.delay = lambda label, number: model.random.uniform(0.1, 2 * STEP_SECONDS)
    crashes = {"CELERIAC_WORKER__MAX_CRASHES": "50"}
    async with running_fleet(
        server, tmp_path, model=model, environment=crashes
    ) as fleet:
        for _ in range(WORKERS):
            await start(fleet, pool, wait=True)
        monkey = Monkey(
            server,
            [worker.process for worker in fleet.stand.workers],
            lambda: spawn(fleet, pool),
            SEED,
        )
        rampage = asyncio.create_task(asyncio.to_thread(monkey.run, SECONDS))
        await submit_until(fleet, rampage)
        await rampage
        await fleet.all_ended(SETTLE_SECONDS)
        report(fleet, monkey)
        assert await broken_invariants(fleet) == []
        for number in range(2):
            assert await broken_turns(fleet, f"talk-{number}") == []
        statuses = [(await fleet.record(label)).status for label in fleet.accepted]
        assert set(statuses) == {TaskStatus.COMPLETED}
        assert [w.poll() for w in monkey.workers] == [None] * WORKERS


async def start(fleet: Fleet, pool: str, *, wait: bool) -> Popen[bytes]:
    worker = await fleet.start_worker(*choose(pool), slots=4, wait=wait)
    return worker.process


def spawn(fleet: Fleet, pool: str) -> Popen[bytes]:
    return fleet.stand.start_worker(
        "-I", "fault_agents", *choose(pool), slots=4, wait=False
    ).process


async def submit_until(fleet: Fleet, rampage: asyncio.Task[None]) -> None:
    """A client that submits all the time, again with the same key when in doubt."""
    chance = random.Random(SEED)  # noqa: S311
    number = 0
    while not rampage.done():
        number += 1
        label = f"t{number}"
        options: dict[str, object] = {"idempotency_key": label}
        if number % 5 == 0:
            options["conversation_id"] = f"talk-{number % 2}"
        while label not in fleet.accepted:
            try:
                await fleet.submit(label, turns=TURNS, **options)
            except StoreUnavailable:
                await asyncio.sleep(0.2)
        await asyncio.sleep(chance.uniform(0.05, 0.3))


def report(fleet: Fleet, monkey: Monkey) -> None:
    requests = len(fleet.model.requests)
    steps = len(fleet.accepted) * (TURNS + 1)
    print(  # noqa: T201
        f"seed {SEED}: {len(fleet.accepted)} tasks, faults {dict(monkey.counts)},"
        f" {requests} requests for {steps} completions"
    )


@pytest.mark.slow
def test_the_same_faults_break_stock_celery_with_late_acks(
    server: RestartableRedis, tmp_path: Path
) -> None:
    log = tmp_path / "stock.log"
    log.touch()
    variables = Stand(server.url, tmp_path).variables() | {
        "STOCK_BROKER": server.url.replace("unix://", "redis+socket://"),
        "STOCK_LOG": str(log),
        "STOCK_STEP_SECONDS": str(STEP_SECONDS),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    output_file = tmp_path / "stock-worker.log"

    def spawn_stock() -> Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "tests.faults.stock_celery"]
        options = ["-P", "threads", "-c", "4", "-l", "INFO"]
        with output_file.open("ab") as output:
            return subprocess.Popen(
                [*command, "worker", *options, "-n", f"{time.time()}@%h"],
                env=variables,
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # As much work as twelve slots do while the faults go on.
    labels = [f"t{number}" for number in range(int(CONTROL_SECONDS * 10))]
    submit = (
        "import sys; from tests.faults.stock_celery import work\n"
        f"for label in sys.argv[1:]: work.delay(label, {TURNS})"
    )
    workers = [spawn_stock() for _ in range(WORKERS)]
    monkey = Monkey(server, workers, spawn_stock, SEED)
    try:
        wait_until(lambda: output_file.read_text().count(" ready.") == WORKERS, 60)
        # Faults must meet workers at work, as ours do.
        command = [sys.executable, "-c", submit, *labels]
        subprocess.run(command, env=variables, check=True, cwd=tmp_path)
        monkey.run(CONTROL_SECONDS)
        wait_until(lambda: is_quiet(log) or ended_twice(log), SETTLE_SECONDS)
    finally:
        for worker in monkey.workers:
            worker.kill()
            worker.wait(10)
    lines = log.read_text().splitlines()
    ends = Counter(line.split()[1] for line in lines if line.startswith("end"))
    steps = Counter(tuple(line.split()[1:3]) for line in lines if line[:4] == "step")
    lost = [label for label in labels if ends[label] == 0]
    twice = ended_twice(log)
    repeated = sum(count - 1 for count in steps.values())
    print(  # noqa: T201
        f"control, seed {SEED}: {len(labels)} tasks, {len(lost)} not ended,"
        f" {len(twice)} ended twice, {repeated} of {len(steps)} steps repeated"
    )
    assert twice or lost or repeated > len(steps) // 20


def ended_twice(log: Path) -> list[str]:
    """Name the tasks that ended more than once: no patience mends that."""
    lines = (line.split() for line in log.read_text().splitlines())
    ends = Counter(line[1] for line in lines if line[0] == "end")
    return [label for label, count in ends.items() if count > 1]


def is_quiet(log: Path) -> bool:
    """Whether nothing was written for longer than the visibility timeout allows."""
    return time.time() - log.stat().st_mtime > 12
