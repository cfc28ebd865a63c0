"""The safety net: rings for what is due and takes back what was abandoned.

Any number of sweepers may run; each action is one atomic change in the store.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace

from orchestrator.errors import OrchestratorError
from orchestrator.queue import TaskQueue
from orchestrator.scheduler import submit_due
from orchestrator.store import Doorbell, SweepReport, TaskStore

logger = logging.getLogger(__name__)

MORE_SECONDS = 0.05
"""Until the next sweep where one did not do all: more tasks may end, and are to be
forgotten, in a second than by one sweep. Redis serves others meanwhile."""


class Sweeper:
    """Sweeps about every `interval_seconds`, with jitter."""

    def __init__(
        self,
        store: TaskStore,
        queue: TaskQueue,
        *,
        interval_seconds: float = 1.0,
        takes_tasks: bool = True,
    ) -> None:
        """Make a sweeper; one that takes no tasks leaves schedules to others."""
        self._store = store
        self._queue = queue
        self._interval_seconds = interval_seconds
        self._takes_tasks = takes_tasks
        self._alarms: tuple[str, ...] = ()

    async def sweep(self) -> SweepReport:
        """Sweep once and ring for what is ready.

        Raises:
            StoreUnavailable: the store did not answer.
            QueueUnavailable: the broker did not; a later sweep rings again.
        """
        report = await self._store.sweep()
        self._tell(report)
        try:
            await self._ring(report.doorbells)
        finally:
            if self._takes_tasks:
                submitted = await submit_due(self._store)
                await self._ring(submitted.doorbells)
                report = replace(report, more=report.more or submitted.more)
        return report

    async def _ring(self, doorbells: tuple[Doorbell, ...]) -> None:
        if doorbells:
            await self._queue.enqueue(doorbells)

    def _tell(self, report: SweepReport) -> None:
        if report.went_back:
            logger.error(
                "the store's history went back: tasks accepted meanwhile are gone,"
                " ended ones may run again; see `celeriac doctor`"
            )
        self._tell_alarms(report.alarms)
        if report.recovered or report.ended:
            logger.warning(
                "swept",
                extra={"recovered": report.recovered, "ended": report.ended},
            )

    def _tell_alarms(self, alarms: tuple[str, ...]) -> None:
        """Tell a change, once; what lasts is told by /status and `celeriac doctor`."""
        for alarm in alarms:
            if alarm not in self._alarms:
                logger.error("store alarm: %s", alarm)
        if self._alarms and not alarms:
            logger.warning("store alarm over: the store is fit again")
        self._alarms = alarms

    async def run(self) -> None:
        """Sweep until cancelled; tell an outage once, and again when it changes."""
        told = ""
        while True:
            pause = self._interval_seconds * random.uniform(0.75, 1.25)  # noqa: S311
            try:
                if (await self.sweep()).more:
                    pause = min(pause, MORE_SECONDS)
                told = ""
            except OrchestratorError as exc:
                if str(exc) != told:
                    logger.warning("sweep missed: %s", exc)
                told = str(exc)
            except Exception:
                # The safety net must outlive whatever it did not foresee.
                logger.exception("sweep failed")
            await asyncio.sleep(pause)
