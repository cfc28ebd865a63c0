"""How many files and connections a process may hold open.

A shell commonly allows 1,024, and a worker with a thousand runs has a connection to the
endpoint for each. What the system allows beyond that needs no more than asking.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

MOST_FILES: Final = 65_536
"""Some systems allow a billion, and some programs count through them."""


def allow_many_files() -> None:
    """Raise this process's own limit as far as the system lets it, never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # macOS says less than it means
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
