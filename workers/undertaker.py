"""Gives up at once what a dead process of this machine held.

Without it a killed worker's runs go on when their leases have run out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from orchestrator.directory import AgentDirectory
from orchestrator.local_process import is_dead
from orchestrator.store import TaskStore

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0
"""Between two looks at the live workers' names."""


class Undertaker:
    """Looks for announced workers whose process is gone."""

    def __init__(
        self,
        store: TaskStore,
        directory: AgentDirectory,
        *,
        is_dead: Callable[[str], bool] = is_dead,
    ) -> None:
        self._store = store
        self._directory = directory
        self._is_dead = is_dead

    async def look(self) -> None:
        """End the leases of the dead and withdraw them; any number may look at once.

        Raises:
            StoreUnavailable: the store did not answer; a later look repeats.
        """
        for worker in await self._directory.worker_ids():
            if self._is_dead(worker):
                ended = await self._store.bury(worker)
                await self._directory.withdraw(worker)
                facts = {"worker": worker, "leases": ended}
                logger.warning("a worker's process is gone", extra=facts)
