"""What a client pays for importing the public face, in processor time.

Measured against what it is built on, at the same moment: a processor that others use
as well takes twice the time for both.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PUBLIC_FACE = "import orchestrator; orchestrator.Orchestrator"
BUILT_ON = "import celery.app, redis.asyncio, pydantic"
HELP = "from orchestrator.cli.group import run; run(['--help'])"

A_WORKER = """
import workers.app
from orchestrator.settings import load_settings
from orchestrator.wiring import connect
from workers.llm_wiring import open_governor
from workers.start_check import build_manager
settings = load_settings()
build_manager(settings, open_governor(settings, connect(settings)))
"""
A_LEAN_WORKER = f"import workers.__main__, celery.apps.worker{A_WORKER}"
ONLY_FOR_OTHER_COMMANDS = {"click_repl", "flower", "prompt_toolkit", "tornado"}
"""What every `celery` command loads; 12 MiB of a worker's memory."""
ONLY_FOR_SOME = {
    "fastapi",
    "griffe",
    "httpx",
    "jinja2",
    "jsonschema",
    "orchestrator.orchestrator",
    "prometheus_client",
    "rich",
}
"""Each is up to some MiB of a worker's memory, needed by few agents or none."""

COST = """
import sys, time
began = time.process_time()
{statement}
spent = time.process_time() - began
print(spent)
print(*sys.modules)
"""


@pytest.mark.parametrize(("statement", "most_times"), [(PUBLIC_FACE, 4.0), (HELP, 1.0)])
def test_an_import_is_quick_and_loads_no_worker_and_no_server(
    statement: str, most_times: float
) -> None:
    """The best of three: the first may compile, and others use the machine."""
    times = []
    for _ in range(3):
        built_on, _ = cost_of(BUILT_ON)
        cost, loaded = cost_of(statement)
        times.append(cost / built_on)
        assert not {"workers", "httpx", "fastapi"} & loaded
    assert min(times) < most_times


def test_a_worker_loads_nothing_that_only_some_agents_need() -> None:
    _, loaded = cost_of(A_WORKER)
    assert "aiohttp" in loaded
    assert not ONLY_FOR_SOME & loaded


def test_a_worker_of_its_own_program_loads_none_of_celerys_other_commands() -> None:
    _, loaded = cost_of(A_LEAN_WORKER)
    assert {"aiohttp", "click"} <= loaded
    assert not (ONLY_FOR_SOME | ONLY_FOR_OTHER_COMMANDS) & loaded


def cost_of(statement: str) -> tuple[float, set[str]]:
    printed = subprocess.run(
        [sys.executable, "-c", COST.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return float(printed[-2]), set(printed[-1].split())
