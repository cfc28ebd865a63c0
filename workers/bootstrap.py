"""How Celery's worker becomes one of agents: which of its processes run them, and when.

In `threads` and `solo` the worker process itself runs agents; in `prefork` each child
does, and the parent starts no loop and no thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Collection
from typing import Any

from celery import bootsteps, signals

from orchestrator.errors import OrchestratorError
from orchestrator.log_format import show_facts
from orchestrator.loop_thread import LoopThread
from orchestrator.open_files import allow_many_files
from orchestrator.settings import Settings, load_settings
from workers.broker_link import check_broker, lean_broker
from workers.drain_pipe import DrainPipe
from workers.errors import WorkerError
from workers.pool_choice import (
    SUPPORTED_POOLS,
    check_autoscale,
    check_loop,
    pool_of,
    slots_of_process,
    slots_of_worker,
    unsupported,
)
from workers.process import (
    WorkerProcess,
    cancel_from_parent,
    check_heartbeat_file,
    heartbeat_file,
)
from workers.refusal import refuse
from workers.start_check import begin, check_startup
from workers.waking_threads import WakingThreads
from workers.worker_limits import UNLIMITED, take_limits

logger = logging.getLogger(__name__)


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
            asyncio.run(cancel_from_parent(self.settings, tenant, task_id))

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
            check_heartbeat_file(heartbeat_file())
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
