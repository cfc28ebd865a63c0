"""All that runs agents in one worker process: its loop, executor and heartbeat.

Knows nothing of Celery; `bootstrap.py` says which process of a worker is one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from orchestrator.agent_config import WorkerInfo
from orchestrator.collector import spare_the_collector
from orchestrator.errors import InvalidSettings, OrchestratorError, QueueUnavailable
from orchestrator.local_process import release, worker_id
from orchestrator.loop_thread import LoopThread
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import Settings
from orchestrator.sweeper import Sweeper
from orchestrator.wiring import connect
from workers.drain_pipe import DrainPipe
from workers.executor import Executor, ExecutorLimits, ExecutorParts, Outcome
from workers.heartbeat import Heartbeat, HeartbeatParts, HeartbeatTimes
from workers.llm_wiring import open_governor
from workers.start_check import build_manager
from workers.webhook_opening import open_webhooks
from workers.worker_limits import UNLIMITED, WorkerLimits

logger = logging.getLogger(__name__)

LATE_SECONDS = 1.0
"""A loop that stands still for so long leaves tasks to other workers until it moves."""
CANCEL_SECONDS = 5.0
"""How long the store and the broker may take over one cancel."""
CLOSE_SECONDS = 5.0
"""A run that blocks the loop must not keep the process from ending."""


class WorkerProcess:
    """All that runs agents in one process."""

    def __init__(
        self,
        settings: Settings,
        *,
        hostname: str,
        queues: Callable[[], Iterable[str]] | None = None,
        slots: Callable[[], int] = lambda: 1,
        loop: LoopThread | None = None,
        limits: WorkerLimits = UNLIMITED,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._queues = queues
        self._slots = slots
        self._loop = loop or LoopThread("celeriac-runs")
        self._parts = connect(settings)
        self._governor = open_governor(settings, self._parts)
        self.manager = build_manager(settings, self._governor)
        self._executor = Executor(
            ExecutorParts(
                store=self._parts.store,
                queue=self._parts.queue,
                manager=self.manager,
                conversations=self._parts.conversations,
                conversation_config=self._parts.conversation_config,
            ),
            worker=worker_id(),
            limits=ExecutorLimits(
                lease_seconds=settings.worker.lease,
                max_result_bytes=settings.limits.max_result_bytes,
                max_message_bytes=settings.limits.max_message_bytes,
                shutdown_grace_seconds=settings.worker.shutdown_grace,
                soft_time_limit_seconds=limits.soft,
                time_limit_seconds=limits.hard,
            ),
        )
        self._heartbeat = Heartbeat(
            self._executor,
            runs_loop=self._loop.loop,
            describe=self._describe,
            connect=self._connect_heartbeat,
            times=HeartbeatTimes(
                lease_seconds=settings.worker.lease,
                renew_seconds=settings.worker.heartbeat,
                stall_limit_seconds=settings.worker.loop_stall_limit,
            ),
            heartbeat_file=heartbeat_file(),
        )
        self._heartbeat.start()
        spare_the_collector()

    @property
    def is_on_time(self) -> bool:
        """Whether the loop of the runs moves; a task would wait for it to do so."""
        return self._heartbeat.late_seconds < LATE_SECONDS

    def run(self, tenant: str, task_id: str) -> Outcome:
        """Run a task's attempt; blocks."""
        return self._loop.await_(self._executor.run(tenant, task_id))

    def drain(self) -> None:
        """Take no more runs and release those in flight at their next step."""
        with suppress(RuntimeError):
            self._loop.loop.call_soon_threadsafe(self._executor.drain)

    def abandon(self) -> None:
        """Take no more runs and release those in flight where they stand."""
        with suppress(RuntimeError):
            self._loop.loop.call_soon_threadsafe(self._executor.abandon)

    def cancel(self, tenant: str, task_id: str) -> None:
        """Ask for the end of a task, held here or elsewhere; does not wait."""
        asyncio.run_coroutine_threadsafe(
            _cancel(self._parts, tenant, task_id), self._loop.loop
        )

    def drain_with(self, pipe: DrainPipe) -> None:
        """Drain when the parent of this process announces it."""
        pipe.listen(self._loop.loop, self._executor.drain)

    def close(self) -> None:
        """Withdraw the worker and close what it holds."""
        self._heartbeat.close()
        if self._loop.is_alive:
            with suppress(TimeoutError):
                self._loop.await_(self._close_parts(), timeout=CLOSE_SECONDS)
            self._loop.close()

    async def _close_parts(self) -> None:
        await self._governor.aclose()
        await self._parts.aclose()

    @asynccontextmanager
    async def _connect_heartbeat(self) -> AsyncIterator[HeartbeatParts]:
        parts = connect(self._settings)
        try:
            yield HeartbeatParts(
                store=parts.store,
                directory=parts.directory,
                sweeper=Sweeper(parts.store, parts.queue),
                webhooks=open_webhooks(self._settings.webhooks, parts.store),
            )
        finally:
            await parts.aclose()

    def _describe(self) -> WorkerInfo:
        queues = tuple(self._queues()) if self._queues else ()
        agents = tuple(info.config for info in self.manager.list_agents())
        if self._queues and not queues:
            agents = ()  # `celery control cancel_consumer` has left it none to serve
        return WorkerInfo(
            id=self._executor.worker,
            hostname=self._hostname,
            pid=os.getpid(),
            agents=agents,
            queues=queues,
            slots=self._slots(),
            running=len(self._executor.runs),
            draining=self._executor.draining,
            release=release(),
        )


async def _cancel(parts: OrchestratorParts, tenant: str, task_id: str) -> None:
    """Cancel a task; whom that lets begin is rung for."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            cancelled = await parts.store.cancel(tenant, task_id)
            await parts.queue.enqueue(cancelled.doorbells)
    except QueueUnavailable:
        logger.warning("doorbell not rung; the sweeper will", exc_info=True)
    except (OrchestratorError, TimeoutError) as exc:
        facts = {"task_id": task_id, "error": str(exc) or "Redis is silent"}
        logger.warning("revoked but not cancelled", extra=facts)


async def cancel_from_parent(settings: Settings, tenant: str, task_id: str) -> None:
    """Cancel a task in a process that runs no agents and holds no connection."""
    parts = connect(settings)
    try:
        await _cancel(parts, tenant, task_id)
    finally:
        await parts.aclose()


def check_heartbeat_file(path: Path | None) -> None:
    """Refuse a file that no heartbeat could write: a probe would end the worker.

    Raises:
        InvalidSettings: it cannot be written.
    """
    if path is None:
        return
    # Not by writing: a probe would take that for a heartbeat.
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InvalidSettings(
            [
                f"CELERIAC_HEARTBEAT_FILE: {path} cannot be written; name a file in a"
                " directory that there is and that this user may write to"
            ]
        )


def heartbeat_file() -> Path | None:
    """Return the file that a probe watches, if the environment names one."""
    path = os.environ.get("CELERIAC_HEARTBEAT_FILE")
    return Path(path) if path else None
