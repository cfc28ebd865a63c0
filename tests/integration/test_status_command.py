"""`celeriac status` and the service's readiness, over real Redis and a real worker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from orchestrator import Orchestrator
from orchestrator.loop_thread import LoopThread
from tests.stand import Stand
from workers.llm.double import Double

pytestmark = pytest.mark.timeout(120)


def status(stand: Stand, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "status", *options],
        cwd=stand.directory,
        env=stand.variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_status_tells_what_ran_and_who_works(stand: Stand) -> None:
    loop, double = LoopThread("double"), Double(["One."])
    loop.await_(double.__aenter__())
    stand.llm_url = double.url
    without_worker = status(stand)
    assert without_worker.returncode == 69
    assert "not ready: workers" in without_worker.stderr
    stand.start_worker(slots=3)
    with Orchestrator(stand.settings()) as celeriac:
        celeriac.submit("assistant", {"prompt": "Go"}).result(timeout=60)
    done = status(stand, "--json")
    loop.await_(double.__aexit__(None, None, None))
    loop.close()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (assistant,) = [each for each in told["agents"] if each["name"] == "assistant"]
    assert assistant["ended"] == {"completed": 1}
    assert assistant["workers"] == 1
    assert assistant["expected_wait_seconds"] == 0
    assert [worker["slots"] for worker in told["workers"]] == [3]
    assert {part["name"]: part["ready"] for part in told["readiness"]["parts"]} == {
        "agent_manager": True,
        "store": True,
        "broker": True,
        "workers": True,
    }
    assert status(stand).stdout.count("assistant") == 1
