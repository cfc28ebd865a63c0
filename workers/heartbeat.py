"""A worker process's pulse: leases, liveness, cancels and the sweep.

It has its own thread, loop and connections, so that a busy run cannot stop it. When the
runs' loop has stood still for too long it stops renewing, and their tasks move on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.agent_config import WorkerInfo
from orchestrator.directory import AgentDirectory
from orchestrator.errors import OrchestratorError
from orchestrator.store import Lease, LeaseState, TaskStore
from orchestrator.sweeper import Sweeper
from workers.executor import Executor
from workers.loop_watch import Culprit, LoopWatch
from workers.run import Interrupt, Run
from workers.seldom import Seldom
from workers.undertaker import PAUSE_SECONDS, Undertaker

if TYPE_CHECKING:
    from workers.webhooks import WebhookDeliverer

logger = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 2.0
ANNOUNCE_TTL_SECONDS = 10.0
CONTROL_WAIT_SECONDS = 1.0
LATE_SECONDS = 1.0
"""A loop that stands still for so long ends no run that was cancelled or is overdue."""
STOP_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class HeartbeatParts:
    """What a heartbeat works with, on its own loop."""

    store: TaskStore
    directory: AgentDirectory
    sweeper: Sweeper
    webhooks: WebhookDeliverer | None = None
    """None when no webhook is allowed."""


class ConnectHeartbeat(Protocol):
    """Opens the heartbeat's connections on its own loop and closes them there."""

    def __call__(self) -> AbstractAsyncContextManager[HeartbeatParts]:
        """Return a context of fresh ones."""
        ...


@dataclass(frozen=True, kw_only=True)
class HeartbeatTimes:
    """Seconds between beats and what they promise."""

    lease_seconds: float = 10.0
    renew_seconds: float = 3.0
    stall_limit_seconds: float = 30.0


class Heartbeat:
    """The pulse of one worker process."""

    def __init__(
        self,
        executor: Executor,
        *,
        runs_loop: asyncio.AbstractEventLoop,
        describe: Callable[[], WorkerInfo],
        connect: ConnectHeartbeat,
        times: HeartbeatTimes,
        heartbeat_file: Path | None = None,
    ) -> None:
        self._executor = executor
        self._runs_loop = runs_loop
        self._describe = describe
        self._connect = connect
        self._times = times
        self._file = heartbeat_file
        self._watch = LoopWatch(runs_loop, whose=self._whose)
        self._is_worth_telling = Seldom()  # several beats, each twice a second
        self._announced = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._serve, name="celeriac-heartbeat", daemon=True
        )

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def wait_announced(self, timeout_seconds: float) -> bool:
        """Wait until the worker is announced; tell whether it is."""
        return self._announced.wait(timeout_seconds)

    @property
    def late_seconds(self) -> float:
        """How long the runs' loop has owed an answer; 0 while it is on time."""
        return self._watch.late_seconds

    def close(self) -> None:
        """Withdraw the worker and stop."""
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(STOP_SECONDS)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._beat())
        finally:
            self._loop.close()

    async def _beat(self) -> None:
        async with self._connect() as parts:
            beats = [asyncio.create_task(beat) for beat in self._beats(parts)]
            await self._stop.wait()
            for beat in beats:
                beat.cancel()
            await asyncio.gather(*beats, return_exceptions=True)
            with suppress(OrchestratorError):
                # What a cold shutdown cut short is not given back, and whoever has
                # withdrawn is found dead by nobody. Runs that are here still may be.
                if not self._executor.runs:
                    await parts.store.bury(self._executor.worker)
                await parts.directory.withdraw(self._executor.worker)

    def _beats(self, parts: HeartbeatParts) -> Iterator[Coroutine[Any, Any, None]]:
        yield self._every(self._times.renew_seconds, lambda: self._renew(parts.store))
        yield self._every(ANNOUNCE_SECONDS, lambda: self._announce(parts.directory))
        yield self._every(0.0, lambda: self._take_cancels(parts.store))
        yield self._watch.run()
        undertaker = Undertaker(parts.store, parts.directory)
        yield self._every(PAUSE_SECONDS, undertaker.look)
        yield parts.sweeper.run()
        if parts.webhooks is not None:
            yield parts.webhooks.run()

    async def _every(self, seconds: float, beat: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await beat()
            except OrchestratorError as exc:
                if self._is_worth_telling(str(exc)):
                    logger.warning("heartbeat missed: %s", exc)
                await asyncio.sleep(max(seconds / 3, 0.5))
                continue
            except Exception:
                # A beat that stopped would let every lease of the process run out.
                logger.exception("heartbeat failed")
                await asyncio.sleep(max(seconds / 3, 0.5))
                continue
            await asyncio.sleep(seconds)

    async def _renew(self, store: TaskStore) -> None:
        runs = [*self._executor.runs.values()]
        if self.late_seconds > self._times.stall_limit_seconds:
            await self._surrender(store, runs)
            return
        if self.late_seconds > LATE_SECONDS:
            overdue = [run for run in runs if run.is_overdue]
            await self._surrender(store, overdue)
            runs = [run for run in runs if run not in overdue]
        held = [(run, run.lease) for run in runs if run.lease]
        if not held:
            return
        states = await store.renew(
            [lease for _, lease in held], lease_seconds=self._times.lease_seconds
        )
        cancelled: list[Run] = []
        for (run, lease), state in zip(held, states, strict=True):
            if state is LeaseState.LOST:
                self._interrupt(lease, Interrupt.LEASE_LOST)
            elif state is LeaseState.CANCEL_REQUESTED:
                self._interrupt(lease, Interrupt.CANCEL)
                cancelled.append(run)
        if self.late_seconds > LATE_SECONDS:
            deaf = [run for run in cancelled if not run.has_left]
            await self._surrender(store, deaf)

    async def _surrender(self, store: TaskStore, runs: Sequence[Run]) -> None:
        """Let runs of a loop that stands still move elsewhere, or be ended there."""
        if not runs:
            return
        current = asyncio.current_task(self._runs_loop)
        blamed = self._run_of(current) if current is not None else None
        told = "runs' loop stands still; leases of its runs are given up"
        if self._is_worth_telling(told):
            facts = {
                "seconds": round(self.late_seconds, 1),
                "blocked_by": blamed.task.id if blamed else None,
            }
            logger.error(told, extra=facts)
        await store.surrender(
            [run.lease for run in runs if run.lease],
            blamed=blamed.lease if blamed else None,
        )

    async def _announce(self, directory: AgentDirectory) -> None:
        """Say that the worker lives, unless what runs its agents does not."""
        if self.late_seconds > self._times.stall_limit_seconds:
            return
        health = self._watch.report()
        facts = {
            "loop_lag_seconds": health.lag_seconds,
            "loop_blocked": health.blocked,
        }
        info = self._describe().model_copy(update=facts)
        await directory.announce(info, ttl_seconds=ANNOUNCE_TTL_SECONDS)
        self._announced.set()
        if self._file is not None:
            self._touch(self._file)

    def _touch(self, file: Path) -> None:
        """Tell a probe; a full disk is told by a line, and by the file's age."""
        try:
            file.write_text(str(os.getpid()))
        except OSError as exc:
            told = f"heartbeat file {file} not written ({exc.strerror})"
            if self._is_worth_telling(told):
                logger.warning("%s", told)

    async def _take_cancels(self, store: TaskStore) -> None:
        requests = await store.wait_cancel_requests(
            self._executor.worker, wait_seconds=CONTROL_WAIT_SECONDS
        )
        with suppress(RuntimeError):
            for tenant, task_id in requests:
                self._runs_loop.call_soon_threadsafe(
                    self._executor.cancel, tenant, task_id
                )

    def _run_of(self, task: asyncio.Task[Any]) -> Run | None:
        runs = [*self._executor.runs.values()]
        return next((run for run in runs if run.is_of(task)), None)

    def _whose(self, task: asyncio.Task[Any]) -> Culprit | None:
        run = self._run_of(task)
        if run is None:
            return None
        return Culprit(run.task.id, run.task.agent_name, run.doing(task))

    def _interrupt(self, lease: Lease, reason: Interrupt) -> None:
        def interrupt() -> None:
            run = self._executor.runs.get((lease.tenant, lease.task_id))
            if run is not None and run.lease == lease:
                run.interrupt(reason)

        with suppress(RuntimeError):
            self._runs_loop.call_soon_threadsafe(interrupt)
