"""The whole system in the caller's process: no Redis, no Celery, nothing on disk.

For tests, notebooks and small tools. Tasks run on the caller's event loop and end with
it; nothing survives the process.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from conversations.memory_store import InMemoryConversationStore
from orchestrator.agent_config import WorkerInfo
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.parts import OrchestratorParts
from orchestrator.settings import Settings, load_settings
from orchestrator.store import Doorbell
from orchestrator.sweeper import Sweeper
from orchestrator.wiring import conversation_service, defaults_of, redact_of
from workers.agent_manager import AgentManager
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.heartbeat import Heartbeat, HeartbeatParts, HeartbeatTimes
from workers.llm_wiring import open_governor
from workers.start_check import build_manager
from workers.webhook_opening import open_webhooks

STOP_SECONDS = 5.0


class ExecutorQueue:
    """Rings by starting runs on one loop, at most `slots` at once, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, slots: int) -> None:
        self._loop = loop
        self._slots = asyncio.Semaphore(slots)
        self._runs: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.executor: Executor | None = None
        """Who runs; set once, since an executor also rings."""

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        for bell in doorbells:
            self._loop.call_soon_threadsafe(self._start, bell)

    async def check(self) -> None:
        """There is no broker."""

    async def aclose(self) -> None:
        """Cancel the runs and wait for them; none begins any more."""
        self._is_closed = True
        for run in self._runs:
            run.cancel()
        if self._runs:
            await asyncio.wait(self._runs, timeout=STOP_SECONDS)

    def _start(self, bell: Doorbell) -> None:
        if self._is_closed:
            return
        run = self._loop.create_task(self._run(bell))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _run(self, bell: Doorbell) -> None:
        async with self._slots:
            if self.executor is not None:
                await self.executor.run(bell.tenant, bell.task_id)


@asynccontextmanager
async def open_orchestrator(
    settings: Settings | None = None, *, manager: AgentManager | None = None
) -> AsyncIterator[AsyncOrchestrator]:
    """Yield an orchestrator whose tasks run here, on in-memory stores.

    Args:
        settings: The configuration; None reads it (`load_settings`).
        manager: Your own agents; None builds those of the settings on the settings'
            endpoint.
    """
    settings = settings or load_settings()
    slots = settings.services.agent_manager.max_concurrent_tasks
    queue = ExecutorQueue(asyncio.get_running_loop(), slots=slots)
    parts = _in_memory_parts(settings, queue)
    governor = None
    if manager is None:
        governor = open_governor(settings, parts)
        manager = build_manager(settings, governor)
    queue.executor = _executor(settings, parts, manager)
    heartbeat = _heartbeat(settings, parts, manager, queue.executor)
    heartbeat.start()
    try:
        await asyncio.to_thread(heartbeat.wait_announced, STOP_SECONDS)
        async with AsyncOrchestrator(settings, parts=parts) as orchestrator:
            yield orchestrator
    finally:
        await asyncio.to_thread(heartbeat.close)
        if governor is not None:
            await governor.aclose()


def _in_memory_parts(settings: Settings, queue: ExecutorQueue) -> OrchestratorParts:
    conversations = InMemoryConversationStore()
    directory = InMemoryAgentDirectory()
    toll = InMemoryToll()
    return OrchestratorParts(
        store=InMemoryTaskStore(
            conversations=conversations,
            directory=directory,
            toll=toll,
            result_ttl_seconds=settings.retention.result_ttl,
            delta_ttl_seconds=settings.retention.delta_ttl,
            idempotency_ttl_seconds=settings.retention.idempotency_ttl,
            max_crashes=settings.worker.max_crashes,
            known_agents=frozenset(settings.agents),
            conversation_config=settings.services.conversations.conversation_config,
            redact=redact_of(settings),
        ),
        queue=queue,
        directory=directory,
        conversations=conversation_service(settings, conversations),
        conversation_config=settings.services.conversations.conversation_config,
        agents=settings.agents,
        defaults=defaults_of(settings),
        gate=toll.gate,
        budget=toll.budget,
        toll=toll,
        budgets=settings.budgets,
        llm=settings.llm,
        agent_manager_enabled=settings.services.agent_manager.enabled,
    )


def _executor(
    settings: Settings, parts: OrchestratorParts, manager: AgentManager
) -> Executor:
    return Executor(
        ExecutorParts(
            store=parts.store,
            queue=parts.queue,
            manager=manager,
            conversations=parts.conversations,
            conversation_config=parts.conversation_config,
        ),
        worker=f"{socket.gethostname()}:{os.getpid()}:in-process",
        limits=ExecutorLimits(
            lease_seconds=settings.worker.lease,
            max_result_bytes=settings.limits.max_result_bytes,
            max_message_bytes=settings.limits.max_message_bytes,
        ),
    )


def _heartbeat(
    settings: Settings,
    parts: OrchestratorParts,
    manager: AgentManager,
    executor: Executor,
) -> Heartbeat:
    @asynccontextmanager
    async def connect() -> AsyncIterator[HeartbeatParts]:
        yield HeartbeatParts(
            store=parts.store,
            directory=parts.directory,
            sweeper=Sweeper(
                parts.store, parts.queue, takes_tasks=parts.agent_manager_enabled
            ),
            webhooks=open_webhooks(settings.webhooks, parts.store),
        )

    def describe() -> WorkerInfo:
        return WorkerInfo(
            id=executor.worker,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            agents=tuple(info.config for info in manager.list_agents()),
            slots=settings.services.agent_manager.max_concurrent_tasks,
            running=len(executor.runs),
        )

    return Heartbeat(
        executor,
        runs_loop=asyncio.get_running_loop(),
        describe=describe,
        connect=connect,
        times=HeartbeatTimes(
            lease_seconds=settings.worker.lease,
            renew_seconds=settings.worker.heartbeat,
        ),
    )
