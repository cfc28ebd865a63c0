"""A task's run from claim to end, as one pipeline; the same in every pool.

Owns the order of things and how each ending is stored. Knows nothing of Celery.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from conversations.conversation import ConversationConfig
from conversations.errors import ConversationNotFound, RedactionFailed
from conversations.json_value import JsonObject, size_of
from conversations.service import ConversationService
from conversations.view import ConversationView
from orchestrator.errors import (
    LeaseLost,
    QueueUnavailable,
    StoreUnavailable,
)
from orchestrator.journal import Journal
from orchestrator.queue import TaskQueue
from orchestrator.store import (
    Claim,
    Doorbell,
    Ending,
    RefusalReason,
    TaskStore,
    Turn,
)
from orchestrator.task import RetryPolicy, Task, TaskFailure, TaskStatus
from workers.agent_manager import AgentManager, Execution, RunStart
from workers.endings import cancelled_itself, forced_ending, too_large
from workers.errors import AgentFailed, GateClosed
from workers.insistence import STORE_PATIENCE_SECONDS, Insistence
from workers.retry import decide, describe
from workers.run import AGENT_STOP_SECONDS, Interrupt, Run
from workers.run_log import StoreRunLog

logger = logging.getLogger(__name__)

_DRAINS = (Interrupt.DRAIN, Interrupt.GRACE_OVER)


class Outcome(NamedTuple):
    """What became of one delivery of a task's message."""

    word: str
    """The task's terminal status, `released`, or why nothing was run."""
    code: str = ""
    """A failure's code; never a text that could hold what a user wrote."""


@dataclass(frozen=True, kw_only=True)
class ExecutorLimits:
    """Numbers that the executor obeys."""

    lease_seconds: float = 10.0
    max_result_bytes: int = 4 * 1024 * 1024
    max_message_bytes: int = 256 * 1024
    store_patience_seconds: float = STORE_PATIENCE_SECONDS
    """How long a step or ending is kept in memory while the store refuses it."""
    shutdown_grace_seconds: float = 25.0
    """How long a drained run may take to reach its next step boundary."""


@dataclass(frozen=True, kw_only=True)
class ExecutorParts:
    """What an executor works with."""

    store: TaskStore
    queue: TaskQueue
    manager: AgentManager
    conversations: ConversationService | None
    """None when the conversations service is disabled."""
    conversation_config: ConversationConfig


class Executor:
    """Runs claimed tasks; holds the runs of this process."""

    def __init__(
        self, parts: ExecutorParts, *, worker: str, limits: ExecutorLimits
    ) -> None:
        self._parts = parts
        self._limits = limits
        self.worker = worker
        self._insist = Insistence(patience_seconds=limits.store_patience_seconds)
        self.runs: dict[tuple[str, str], Run] = {}
        self.draining = False

    async def run(self, tenant: str, task_id: str) -> Outcome:
        """Claim a task and run it to an end of its attempt.

        Raises nothing for what may happen to a run: the record tells.
        """
        try:
            claim = await self._claim(tenant, task_id)
        except StoreUnavailable as exc:
            logger.warning(
                "not claimed; the task is rung for again",
                extra={"task_id": task_id, "error": str(exc)},
            )
            return Outcome("store_unavailable")
        if isinstance(claim, RefusalReason):
            return Outcome(claim.value)
        await self._ring(claim.doorbells)
        run = Run(
            claim.task,
            lease=claim.lease,
            deadline_left_seconds=claim.deadline_left_seconds,
        )
        self.runs[run.key] = run
        if self.draining:
            run.interrupt(Interrupt.DRAIN)
        try:
            return await self._run_claimed(run, claim)
        except LeaseLost:
            logger.warning(
                "run stopped: its lease was lost",
                extra={"task_id": task_id, "attempt": claim.lease.fence},
            )
            return Outcome("lease_lost")
        except StoreUnavailable:
            logger.exception(
                "ending not stored; the sweeper will recover the task",
                extra={"task_id": task_id, "attempt": claim.lease.fence},
            )
            return Outcome("store_unavailable")
        finally:
            run.stop()
            self.runs.pop(run.key, None)

    def drain(self) -> None:
        """Take no more tasks and release the runs at their next step boundary.

        What has not reached one within the grace is released where it stands.
        """
        if self.draining:
            return
        self.draining = True
        self._interrupt_all(Interrupt.DRAIN)
        asyncio.get_running_loop().call_later(
            self._limits.shutdown_grace_seconds, self._end_grace
        )

    def _end_grace(self) -> None:
        self._insist.give_up()
        self._interrupt_all(Interrupt.GRACE_OVER)

    def _interrupt_all(self, reason: Interrupt) -> None:
        for run in self.runs.values():
            run.interrupt(reason)

    async def _claim(self, tenant: str, task_id: str) -> Claim | RefusalReason:
        serves = [info.name for info in self._parts.manager.list_agents()]
        return await self._parts.store.claim(
            tenant,
            task_id,
            worker=self.worker,
            serves=[] if self.draining else serves,
            lease_seconds=self._limits.lease_seconds,
        )

    async def _run_claimed(self, run: Run, claim: Claim) -> Outcome:
        agent = asyncio.create_task(self._execute(run, claim))
        ends: set[asyncio.Future[Any]] = {agent, run.start(agent)}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            agent.cancel()
            await asyncio.wait({agent}, timeout=AGENT_STOP_SECONDS)
            raise
        if not agent.done():
            logger.error(
                "agent ignores its cancel and is left behind",
                extra={"task_id": run.task.id, "agent": run.task.agent_name},
            )
        return await self._settle(run, claim, agent)

    async def _execute(self, run: Run, claim: Claim) -> Execution:
        view: ConversationView | None = None
        conversation_id = claim.task.conversation_id
        if conversation_id is not None:
            view = await self._view(claim.task.tenant, conversation_id)
        results = await self._results_of(claim.task)
        start = RunStart(
            run=run,
            results=results,
            log=StoreRunLog(
                self._parts.store,
                lease=claim.lease,
                insist=self._insist,
                ring=self._ring,
            ),
            journal=Journal(claim.steps, claim.starts, claim.decisions),
            view=view,
        )
        return await self._parts.manager.execute_run(start)

    async def _results_of(self, task: Task) -> tuple[JsonObject, ...]:
        """Return how the tasks ended that this one waited for."""
        results: list[JsonObject] = []
        for task_id in task.after:
            ended = await self._insist(
                partial(self._parts.store.get, task.tenant, task_id)
            )
            if ended.result is None and task.after_failure == "fail":
                raise AgentFailed(
                    f"task {task_id} ended {ended.status.value}, and this one needs its"
                    " answer; retry that one first, or submit with after_failure=run",
                    code="dependency_failed",
                )
            result = ended.result
            results.append(
                {
                    "task_id": task_id,
                    "status": ended.status.value,
                    "content": result.content if result else "",
                    "output": result.output if result else None,
                }
            )
        return tuple(results)

    async def _view(self, tenant: str, conversation_id: str) -> ConversationView:
        conversations = self._parts.conversations
        if conversations is None:
            raise AgentFailed(
                "the conversations service is disabled on this worker;"
                " set services.conversations.enabled: true",
                code="service_disabled",
            )
        try:
            return await self._insist(
                lambda: conversations.view(conversation_id, tenant=tenant)
            )
        except ConversationNotFound:
            return ConversationView(config=self._parts.conversation_config)

    async def _settle(
        self, run: Run, claim: Claim, agent: asyncio.Task[Execution]
    ) -> Outcome:
        """Store how the agent's task ended."""
        stopped = agent.cancelled() or not agent.done()
        error = None if stopped else agent.exception()
        if not stopped and error is None:
            return await self._finish(run, self._completed(run, agent.result()))
        if isinstance(error, LeaseLost) or (
            run.interrupt_reason is Interrupt.LEASE_LOST
        ):
            raise LeaseLost(run.task.id, fence=claim.lease.fence)
        ending = forced_ending(run, error)
        if ending is not None:
            return await self._finish(run, ending)
        if run.interrupt_reason is Interrupt.PARK:
            return await self._park(run)
        if error is None and run.interrupt_reason in _DRAINS:
            return await self._release(run, reason="worker shutting down")
        return await self._failed(run, error or cancelled_itself())

    async def _failed(self, run: Run, error: BaseException) -> Outcome:
        if isinstance(error, GateClosed):
            return await self._release(
                run, reason=str(error), delay_seconds=error.seconds
            )
        failure = describe(error, attempt=run.task.attempt)
        decision = decide(
            error,
            failed_attempts=run.task.failed_attempts,
            policy=run.task.retry or self._policy_of(run),
        )
        logger.info(
            "attempt failed",
            extra={
                "task_id": run.task.id,
                "attempt": run.task.attempt,
                "code": failure.code,
                "again": decision.again,
            },
        )
        if decision.again:
            return await self._release(
                run,
                reason=f"retry after {failure.code}",
                delay_seconds=decision.delay_seconds,
                failure=failure,
            )
        return await self._finish(
            run, Ending(status=TaskStatus.FAILED, failure=failure)
        )

    def _policy_of(self, run: Run) -> RetryPolicy:
        return self._parts.manager.get_config(run.task.agent_name).retry

    def _completed(self, run: Run, execution: Execution) -> Ending:
        size = size_of(execution.result.model_dump(mode="json"))
        if size > self._limits.max_result_bytes:
            return too_large(run, "result", size, self._limits.max_result_bytes)
        turn = None
        if run.task.conversation_id is not None:
            size = max(
                (size_of(m.model_dump(mode="json")) for m in execution.turn), default=0
            )
            if size > self._limits.max_message_bytes:
                return too_large(run, "message", size, self._limits.max_message_bytes)
            turn = Turn(messages=execution.turn, config=self._parts.conversation_config)
        return Ending(status=TaskStatus.COMPLETED, result=execution.result, turn=turn)

    async def _finish(self, run: Run, ending: Ending) -> Outcome:
        lease = run.lease
        if lease is None:
            raise RuntimeError("a stored run has a lease")
        seconds = run.running_seconds()
        try:
            doorbells = await self._insist(
                lambda: self._parts.store.finish(lease, ending, running_seconds=seconds)
            )
        except RedactionFailed as exc:
            failure = describe(exc, attempt=run.task.attempt)
            return await self._finish(
                run, Ending(status=TaskStatus.FAILED, failure=failure)
            )
        await self._ring(doorbells)
        code = ending.failure.code if ending.failure else ""
        return Outcome(ending.status.value, code)

    async def _park(self, run: Run) -> Outcome:
        lease = run.lease
        if lease is None:
            raise RuntimeError("a stored run has a lease")
        seconds = run.running_seconds()
        doorbells = await self._insist(
            lambda: self._parts.store.park(lease, run.awaited, running_seconds=seconds)
        )
        await self._ring(doorbells)
        return Outcome("waiting")

    async def _release(
        self,
        run: Run,
        *,
        reason: str,
        delay_seconds: float = 0.0,
        failure: TaskFailure | None = None,
    ) -> Outcome:
        lease = run.lease
        if lease is None:
            raise RuntimeError("a stored run has a lease")
        seconds = run.running_seconds()
        doorbells = await self._insist(
            lambda: self._parts.store.release(
                lease,
                running_seconds=seconds,
                delay_seconds=delay_seconds,
                reason=reason,
                failure=failure,
            )
        )
        await self._ring(doorbells)
        return Outcome("released", failure.code if failure else "")

    async def _ring(self, doorbells: tuple[Doorbell, ...]) -> None:
        if not doorbells:
            return
        try:
            await self._parts.queue.enqueue(doorbells)
        except QueueUnavailable:
            logger.warning("doorbell not rung; the sweeper will", exc_info=True)
