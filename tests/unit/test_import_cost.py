"""What a client pays for importing the public face, in processor time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PUBLIC_FACE = "import orchestrator; orchestrator.Orchestrator"
HELP = "from orchestrator.cli.group import run; run(['--help'])"

MOST_TRIES = 8
COST = """
import sys, time
began = time.process_time()
{statement}
spent = time.process_time() - began
print(spent)
print(*{{name.partition(".")[0] for name in sys.modules}})
"""


@pytest.mark.parametrize(
    ("statement", "most_seconds"), [(PUBLIC_FACE, 0.5), (HELP, 1.0)]
)
def test_an_import_is_quick_and_loads_no_worker_and_no_server(
    statement: str, most_seconds: float, tmp_path: Path
) -> None:
    """The first try compiles; more than one after it are for busy machines."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    costs: list[float] = []
    while len(costs) < MOST_TRIES and min(costs, default=most_seconds) >= most_seconds:
        printed = subprocess.run(
            [sys.executable, "-c", COST.format(statement=statement)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        costs.append(float(printed[-2]))
        assert not {"workers", "httpx", "fastapi"} & set(printed[-1].split())
    assert min(costs) < most_seconds, costs
