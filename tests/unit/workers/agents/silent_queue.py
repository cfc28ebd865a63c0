"""A queue for tests that ring by hand."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.store import Doorbell


class SilentQueue:
    """Takes doorbells and rings for none."""

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None: ...

    async def aclose(self) -> None: ...
