"""How long a caller waits: one deadline by the monotonic clock.

Waits are cut into reads that end by themselves. A cancel is no substitute: a client
library may swallow the only one (`asyncio.wait_for` of Python 3.11 does).
"""

from __future__ import annotations

import math
from time import monotonic

from orchestrator.errors import InvalidInput


class Patience:
    """The seconds that are left of a wait; None never ends."""

    def __init__(self, seconds: float | None) -> None:
        """Begin to wait.

        Raises:
            InvalidInput: not a number of seconds from 0.
        """
        self._started = monotonic()
        self._seconds = math.inf if seconds is None else _checked(seconds)

    @property
    def left_seconds(self) -> float:
        """What is left, 0 when time is up."""
        return max(0.0, self._seconds - self.waited_seconds)

    @property
    def waited_seconds(self) -> float:
        """What has passed."""
        return monotonic() - self._started


def _checked(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidInput(
            "timeout",
            f"must be seconds or None (got {type(seconds).__name__}); give a number",
        )
    if not seconds >= 0:
        raise InvalidInput(
            "timeout",
            "must not be negative or NaN; 0 looks once, None waits to the end",
        )
    return float(min(seconds, 1e9))
