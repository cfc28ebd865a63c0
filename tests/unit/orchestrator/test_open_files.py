"""A process takes what the system allows of open files."""

from __future__ import annotations

import subprocess
import sys

import pytest

TOLD = """
import resource
from orchestrator.open_files import allow_many_files
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_many_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(256, 4000), (4000, 4000)])
def test_a_low_limit_is_raised_to_what_the_system_allows(soft: int, hard: int) -> None:
    program = TOLD.format(soft=soft, hard=hard)
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert told.split() == ["4000", "4000"]
