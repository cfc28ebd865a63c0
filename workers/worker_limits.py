"""The limits that a worker's command line sets, taken as limits of the runs themselves.

Celery's own would cut a run off without an end of its record: its lease runs out, the
run begins again, and asks the model again, for as long as the task's own limits allow.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from orchestrator.duration import parse_seconds
from orchestrator.errors import InvalidSettings

BACKSTOP_SECONDS: Final = 30.0
"""How much later Celery ends what a limit of the run did not: a child that blocks."""


class WorkerLimits(NamedTuple):
    """Seconds a run may take on this worker; None is no limit."""

    soft: float | None = None
    hard: float | None = None


UNLIMITED: Final = WorkerLimits()


def take_limits(worker: Any) -> WorkerLimits:
    """Take them from a worker whose pool is not made yet; leave it the backstop.

    Raises:
        InvalidSettings: one is no duration.
    """
    soft = _limit("--soft-time-limit", worker.soft_time_limit)
    hard = _limit("--time-limit", worker.time_limit)
    worker.soft_time_limit = worker.time_limit = None
    if hard is not None:
        worker.time_limit = hard + BACKSTOP_SECONDS
        # As an agent's hard limit does: a run counts on its soft one while it has it.
        soft = min(soft or hard, hard)
    return WorkerLimits(soft, hard)


def _limit(option: str, given: float | None) -> float | None:
    """Check what Celery's command line and settings take unseen: below zero, NaN."""
    try:
        return parse_seconds(given) if given else None
    except ValueError as exc:
        raise InvalidSettings([f"{option}: {exc}; 0 is no limit"]) from None
