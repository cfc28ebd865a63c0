"""Wiring of a worker process: which concrete parts run its agents.

In `threads` and `solo` the worker process itself runs agents; in `prefork` each child
does, and the parent starts no loop and no thread.
"""

from __future__ import annotations

import asyncio
import gc
import linecache
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from celery import bootsteps, signals

from orchestrator.agent_config import WorkerInfo
from orchestrator.errors import OrchestratorError, QueueUnavailable
from orchestrator.local_process import release, worker_id
from orchestrator.log_format import show_facts
from orchestrator.loop_thread import LoopThread
from orchestrator.open_files import allow_many_files
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import Settings, load_settings
from orchestrator.sweeper import Sweeper
from orchestrator.wiring import connect
from workers.broker_link import check_broker, lean_broker
from workers.drain_pipe import DrainPipe
from workers.errors import WorkerError
from workers.executor import Executor, ExecutorLimits, ExecutorParts, Outcome
from workers.heartbeat import Heartbeat, HeartbeatParts, HeartbeatTimes
from workers.llm_wiring import open_governor
from workers.pool_choice import (
    SUPPORTED_POOLS,
    check_autoscale,
    check_loop,
    pool_of,
    slots_of_process,
    slots_of_worker,
    unsupported,
)
from workers.refusal import refuse
from workers.start_check import begin, build_manager, check_startup
from workers.waking_threads import WakingThreads
from workers.webhook_opening import open_webhooks
from workers.worker_limits import UNLIMITED, WorkerLimits, take_limits

logger = logging.getLogger(__name__)

GC_THRESHOLD = 20_000
"""Objects made, less those freed, between two collections of the youngest."""
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
            heartbeat_file=_heartbeat_file(),
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


def spare_the_collector() -> None:
    """Take what lives as long as the process out of Python's garbage collections.

    A run leaves few cycles, and a thousand runs hold many objects: the default
    thresholds look through all of them again and again, for an eighth of the time.
    """
    linecache.clearcache()  # the sources that pydantic has read docstrings from
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


class WorkerProcessHolder:
    """The worker process's parts, made on first use and never shared over a fork."""

    def __init__(self) -> None:
        self.worker: Any = None
        """Celery's worker, once there is one; its children inherit it."""
        self.limits = UNLIMITED
        self._settings: Settings | None = None
        self._lock = threading.RLock()  # a signal may close within `current`
        self._process: WorkerProcess | None = None
        self._pid = 0
        self._is_draining = False
        self._drain_pipe: DrainPipe | None = None

    def serve(self, worker: Any, settings: Settings) -> None:
        """Be the process of a worker, which may follow one that was drained."""
        self.worker = worker
        self._settings = settings
        self._is_draining = False

    @property
    def settings(self) -> Settings:
        """What the worker was started with, and checked, whatever the file says now.

        A child that is forked later must not serve other agents than its siblings.
        """
        return self._settings or load_settings()

    def current(self) -> WorkerProcess:
        """Return this process's parts."""
        with self._lock:
            if self._process is None or self._pid != os.getpid():
                self._process = WorkerProcess(self.settings, **self._facts())
                self._pid = os.getpid()
            return self._process

    def cancel(self, tenant: str, task_id: str) -> None:
        """Ask for the end of a task that Celery was told to revoke."""
        if self._process is not None and self._pid == os.getpid():
            self._process.cancel(tenant, task_id)
        else:
            asyncio.run(_cancel_from_parent(self.settings, tenant, task_id))

    def slots(self) -> int:
        """Return how many tasks Celery may take.

        None while they would wait long, and none that a worker which ends would have to
        give back: the message goes to another one instead.
        """
        process = self._process
        is_late = (
            process is not None and self._pid == os.getpid() and not process.is_on_time
        )
        if is_late or self._is_draining:
            return 0
        return slots_of_worker(self.worker)

    def expect_children(self) -> None:
        """Prepare for the fork of processes that run agents."""
        self._drain_pipe = DrainPipe()

    def start_in_child(self) -> None:
        """Make the parts of a process that a worker has forked."""
        process = self.current()
        if self._drain_pipe is not None:
            process.drain_with(self._drain_pipe)

    def drain(self) -> None:
        """Drain this process, if it runs agents, and its children."""
        self._is_draining = True
        if self._drain_pipe is not None:
            self._drain_pipe.announce()
        if self._process is not None and self._pid == os.getpid():
            self._process.drain()

    def abandon(self) -> None:
        """Release the runs of this process at once, if it runs agents."""
        if self._process is not None and self._pid == os.getpid():
            self._process.abandon()

    def close(self) -> None:
        """Close, if this process runs agents."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and self._pid == os.getpid():
            process.close()

    def _facts(self) -> dict[str, Any]:
        if self.worker is None:
            return {"hostname": socket.gethostname()}
        return {
            "hostname": self.worker.hostname,
            "queues": lambda: self.worker.app.amqp.queues.consume_from,
            "loop": self._pool_loop(),
            "slots": lambda: slots_of_process(self.worker),
            "limits": self.limits,
        }

    def _pool_loop(self) -> LoopThread | None:
        """Return the loop that the pool runs tasks on; None for pools without one.

        A run on another loop would block the pool's, and with it every other slot.
        """
        if pool_of(self.worker) != "pool":
            return None
        loop: LoopThread | None = self.worker.pool.loop
        if loop is None:
            raise RuntimeError("agents start after their pool, whose loop they run on")
        return loop


worker_process = WorkerProcessHolder()


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


async def _cancel_from_parent(settings: Settings, tenant: str, task_id: str) -> None:
    parts = connect(settings)
    try:
        await _cancel(parts, tenant, task_id)
    finally:
        await parts.aclose()


class AgentStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Refuses a worker that cannot run agents, before its pool forks.

    Celery makes every step of a worker before it starts the first. This one starts
    after the pool, whose loop the runs need: Celery orders only what requires another.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        pool = pool_of(worker)
        try:
            if pool not in SUPPORTED_POOLS:
                raise unsupported(pool)
            check_loop(pool, is_there=worker.use_eventloop)
            check_autoscale(pool, worker.max_concurrency)
            worker_process.limits = take_limits(worker)
            _take_from(worker, asyncio.run(check_startup(worker_process.settings)))
        except (OrchestratorError, WorkerError) as exc:
            refuse(exc)
        if pool == "prefork":
            # Multiprocessing is loaded where it is used.
            from workers.prefork import PreforkPool  # noqa: PLC0415

            worker.pool_cls = PreforkPool
            worker_process.expect_children()
        elif pool == "thread":
            worker.pool_cls = WakingThreads

    def start(self, worker: Any) -> None:
        """Start agents here, unless they run in children."""
        if pool_of(worker) != "prefork":
            worker_process.current()

    def close(self, _worker: Any) -> None:
        """Drain also for SIGHUP and `celery control shutdown`, which send no signal."""
        worker_process.drain()


def _take_from(worker: Any, queues: Collection[str]) -> None:
    """Take from queues of agents that code registers too, unless a `-Q` or `-X` chose.

    Celery reads the queues of its settings only, and tells no step of that choice.
    """
    known = worker.app.amqp.queues
    for name in sorted(set(queues) - set(known)):
        is_wanted = known._consume_from is None and name not in known.left_out
        take = known.select_add if is_wanted else known.add
        take(name, exchange=name, routing_key=name)
    taken = sorted(known.consume_from)
    if not set(taken) & set(queues):
        logger.warning(
            "this worker runs nothing: its queues (%s) are those of no agent; leave -Q"
            " and -X out, or name some of: %s",
            ", ".join(taken),
            ", ".join(sorted(queues)),
        )


def _remember(instance: Any, conf: Any, options: Any, **_: Any) -> None:
    """Take the worker on; without its modules or a Redis it ends here, in a line."""
    allow_many_files()
    try:
        check_broker(conf.broker_read_url)
        begin(load_settings(), options.get("include"), instance.app.loader)
        settings = load_settings()  # a project's module may have set variables
    except (OrchestratorError, WorkerError) as exc:
        refuse(exc)
    worker_process.serve(instance, settings)
    if lean := lean_broker(conf.broker_read_url):
        gate = {"slots": f"{__name__}:slots"}
        conf.update(lean, broker_transport_options=conf.broker_transport_options | gate)


def slots() -> int:
    """Return how many tasks this worker may have in hand: 0 if none would begin soon.

    The transport asks by this function's name: Celery's settings are sent to Flower.
    """
    return worker_process.slots()


def _start_in_child(**_: Any) -> None:
    if worker_process.worker is not None:
        worker_process.start_in_child()


def _close(**_: Any) -> None:
    worker_process.close()


def _drain(**_: Any) -> None:
    worker_process.drain()


signals.after_setup_logger.connect(show_facts, weak=False)
signals.after_setup_task_logger.connect(show_facts, weak=False)
signals.celeryd_init.connect(_remember, weak=False)
signals.worker_process_init.connect(_start_in_child, weak=False)
signals.worker_process_shutdown.connect(_close, weak=False)
signals.worker_shutdown.connect(_close, weak=False)
signals.worker_shutting_down.connect(_drain, weak=False)


def _heartbeat_file() -> Path | None:
    path = os.environ.get("CELERIAC_HEARTBEAT_FILE")
    return Path(path) if path else None
