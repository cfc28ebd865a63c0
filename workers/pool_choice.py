"""Which of Celery's pools can run agents, and what is said of the others."""

from __future__ import annotations

from typing import Final

from workers.errors import UnsupportedPool

SUPPORTED_POOLS: Final = {
    "pool": "without --pool",
    "prefork": "with --pool prefork",
    "thread": "with --pool threads",
    "solo": "with --pool solo",
}
"""Last part of a pool's module → how to ask for it; `pool` is our AsyncPool."""


def unsupported(pool: str) -> UnsupportedPool:
    """Return the refusal of a pool, with those that can run agents."""
    return UnsupportedPool(
        f"pool {pool!r} cannot run agents; start the worker"
        f" {', '.join(SUPPORTED_POOLS.values())}"
    )
