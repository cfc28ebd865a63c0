"""P23: a worker and a client of an older commit beside those of this one."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from orchestrator import TaskStatus
from tests.faults.fleet import Fleet, choose
from tests.faults.invariants import broken_invariants, broken_turns
from tests.stand import RunningWorker

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

UNRELEASED = "7cc2930"
"""A commit of this repository, taken until there is a release before this one."""
CLIENT = """
import sys
from orchestrator import Orchestrator
from tests.faults.scripted_model import prompt
with Orchestrator() as celeriac:
    for number in range(20):
        label = f"old{number}"
        task = celeriac.submit("counter", {"prompt": prompt(label, turns=2)})
        print(label, task.id, flush=True)
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The older source; skips where the repository does not have it."""
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    here = [git, "-C", str(Path(__file__).parents[2])]
    last = subprocess.run(
        [*here, "describe", "--tags", "--abbrev=0", "HEAD^"],
        check=False,
        capture_output=True,
        text=True,
    )
    commit = os.environ.get("CELERIAC_OLDER") or last.stdout.strip() or UNRELEASED
    archive = subprocess.run(
        [*here, "archive", commit], check=False, capture_output=True
    )
    if archive.returncode:
        pytest.skip(f"no commit {commit} here: {archive.stderr.decode().strip()}")
    place = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as source:
        source.extractall(place, filter="data")
    return place


async def start_older(fleet: Fleet, older: Path, pool: str) -> RunningWorker:
    fleet.stand.environment["PYTHONPATH"] = str(older)
    worker = await fleet.start_worker(*choose(pool), wait=False)
    del fleet.stand.environment["PYTHONPATH"]
    await fleet.until(lambda: " ready." in worker.text(), 60)
    return worker


async def submit_as_older(fleet: Fleet, older: Path) -> None:
    told = await asyncio.to_thread(
        subprocess.check_output,
        [sys.executable, "-c", CLIENT],
        env=fleet.stand.variables() | {"PYTHONPATH": str(older)},
        cwd=fleet.stand.directory,
    )
    fleet.accepted |= dict(line.split() for line in told.decode().splitlines())
    fleet.order += [line.split()[0] for line in told.decode().splitlines()]


@pytest.mark.parametrize("pool", ["async", "threads"])
async def test_workers_and_clients_of_an_older_release_run_beside_these(
    fleet: Fleet, older: Path, pool: str
) -> None:
    """Both die in the middle: each goes on with what the other has begun."""
    source = older / "tests/faults/fault_agents.py"
    shutil.copy(source, fleet.stand.directory / source.name)
    fleet.model.delay = lambda label, number: 0.3
    first = await start_older(fleet, older, pool)
    await fleet.submit("alone", turns=2)
    await fleet.all_ended(60)
    newer = await fleet.start_worker(*choose(pool))
    await submit_as_older(fleet, older)
    for number in range(20):
        talk = {"conversation_id": "talk"} if number % 4 == 0 else {}
        await fleet.submit(f"t{number}", turns=2, **talk)
    await fleet.until(lambda: len(fleet.model.requests) > 20, 60)
    first.signal(signal.SIGKILL)
    second = await start_older(fleet, older, pool)
    for number in range(20, 40):
        await fleet.submit(f"t{number}", turns=2)
    seen = len(fleet.model.requests)
    await fleet.until(lambda: len(fleet.model.requests) > seen + 10, 60)
    newer.signal(signal.SIGKILL)
    await fleet.until(lambda: len(fleet.model.requests) > seen + 20, 60)
    await fleet.start_worker(*choose(pool))
    second.signal(signal.SIGTERM)
    assert await asyncio.to_thread(second.wait, 60) == 0
    await fleet.all_ended(90)
    records = [await fleet.record(label) for label in fleet.accepted]
    assert {record.status for record in records} == {TaskStatus.COMPLETED}
    assert {record.crashes for record in records} == {0}
    assert await broken_invariants(fleet) == []
    assert await broken_turns(fleet, "talk") == []
