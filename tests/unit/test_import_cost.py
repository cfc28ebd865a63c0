"""What a client pays for importing the public face, in processor time."""

from __future__ import annotations

import subprocess
import sys

import pytest

PUBLIC_FACE = "import orchestrator; orchestrator.Orchestrator"
HELP = "from orchestrator.cli.group import run; run(['--help'])"

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
    statement: str, most_seconds: float
) -> None:
    """The best of three: the first may compile, and others use the machine."""
    costs = []
    for _ in range(3):
        printed = subprocess.run(
            [sys.executable, "-c", COST.format(statement=statement)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        costs.append(float(printed[-2]))
        assert not {"workers", "httpx", "fastapi"} & set(printed[-1].split())
    assert min(costs) < most_seconds
