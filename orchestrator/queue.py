"""The doorbell: the only code that produces Celery messages.

A message carries ids and a label; it may be lost, repeated or reordered without harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.store import Doorbell


class TaskQueue(Protocol):
    """Tells workers that tasks are due."""

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        """Ring for tasks, in order.

        Raises:
            QueueUnavailable: the broker took none or only some; the sweeper repeats.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
