"""`python -m workers` as a process: what Celery does with its command line works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from tests.integration.cli_stand import endpoint
from tests.stand import STOP_SECONDS, Stand, wait_until

pytestmark = pytest.mark.timeout(180)

LEAN = [sys.executable, "-m", "workers"]


def test_it_works_is_seen_starts_again_on_sighup_and_ends_warmly(stand: Stand) -> None:
    with endpoint(stand, ["one", "two"]), Orchestrator(stand.settings()) as celeriac:
        worker = stand.start_worker("--without-mingle", slots=3, program=LEAN)
        assert answer(celeriac) == "one"
        (before,) = celeriac.workers()
        assert before.slots == 3
        assert "w1@" in asked(stand)
        worker.signal(signal.SIGHUP)
        wait_until(
            lambda: worker.text().count(" ready.") == 2, STOP_SECONDS * 3, worker.text
        )
        assert answer(celeriac) == "two"
        after = celeriac.workers()
        assert [(each.pid, each.slots) for each in after] == [(worker.pid, 3)]
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.text()
        assert "Warm shutdown" in worker.text()


def answer(celeriac: Orchestrator) -> str:
    task = celeriac.submit("assistant", {"prompt": "Which?"})
    return task.result(timeout=60).content


def asked(stand: Stand) -> str:
    """What Celery's own remote control hears."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers", "inspect", "ping"],
        cwd=stand.directory,
        env=stand.variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def pidfile(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "worker.pid"
    yield path
    with suppress(OSError, ValueError):
        os.kill(int(path.read_text()), signal.SIGKILL)


def test_a_detached_worker_is_the_same_program(stand: Stand, pidfile: Path) -> None:
    log = stand.directory / "detached.log"
    options = [f"--pidfile={pidfile}", f"--logfile={log}", "-l", "INFO", "-c", "2"]
    options.append("--without-mingle")
    subprocess.run(
        [*LEAN, "--detach", *options],
        cwd=stand.directory,
        env=stand.variables(),
        timeout=60,
        check=True,
    )

    def said() -> str:
        return log.read_text() if log.exists() else ""

    with Orchestrator(stand.settings()) as celeriac:
        wait_until(lambda: bool(celeriac.workers()), STOP_SECONDS * 3, said)
        (worker,) = celeriac.workers()
        assert worker.slots == 2
        assert int(pidfile.read_text()) == worker.pid != os.getpid()
        line = Path(f"/proc/{worker.pid}/cmdline").read_text().split("\0")
        assert line[1:-1] == ["-mworkers", *options]
        os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), STOP_SECONDS, said)
        assert celeriac.workers() == ()
