"""A task's run from claim to end, as one pipeline; the same in every pool.

Owns the order of things; `settlement` stores how a run ends. Knows nothing of Celery.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from conversations.errors import ConversationNotFound
from conversations.json_value import JsonObject
from conversations.view import ConversationView
from orchestrator.errors import LeaseLost, StoreUnavailable, TaskNotFound
from orchestrator.journal import Journal
from orchestrator.store import Claim, RefusalReason
from orchestrator.task import Task
from orchestrator.trace_context import carry
from workers.agent_manager import Execution, RunStart
from workers.errors import AgentFailed
from workers.executor_parts import ExecutorLimits, ExecutorParts, Outcome
from workers.insistence import Insistence
from workers.run import AGENT_STOP_SECONDS, Interrupt, Run
from workers.run_log import StoreRunLog
from workers.settlement import Settlement

__all__ = ["Executor", "ExecutorLimits", "ExecutorParts", "Outcome"]

logger = logging.getLogger(__name__)


class Executor:
    """Runs claimed tasks; holds the runs of this process."""

    def __init__(
        self, parts: ExecutorParts, *, worker: str, limits: ExecutorLimits
    ) -> None:
        self._parts = parts
        self._limits = limits
        self.worker = worker
        self._insist = Insistence(patience_seconds=limits.store_patience_seconds)
        self._settlement = Settlement(parts, limits=limits, insist=self._insist)
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
        await self._settlement.ring(claim.doorbells)
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

    def abandon(self) -> None:
        """Take no more tasks and release the runs at once, where they stand."""
        self.draining = True
        self._end_grace()

    def _end_grace(self) -> None:
        self._insist.give_up()
        self._interrupt_all(Interrupt.GRACE_OVER)

    def _interrupt_all(self, reason: Interrupt) -> None:
        for run in self.runs.values():
            run.interrupt(reason)

    async def _claim(self, tenant: str, task_id: str) -> Claim | RefusalReason:
        return await self._parts.store.claim(
            tenant,
            task_id,
            worker=self.worker,
            serves=() if self.draining else self._parts.manager.names,
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
        return await self._settlement.settle(run, agent)

    async def _execute(self, run: Run, claim: Claim) -> Execution:
        carry(claim.task.traceparent)
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
                ring=self._settlement.ring,
                task=claim.task,
                has_mail=claim.has_mail,
            ),
            journal=Journal(claim.steps, claim.starts, claim.decisions, claim.read_at),
            view=view,
        )
        return await self._parts.manager.execute_run(start)

    async def _results_of(self, task: Task) -> tuple[JsonObject, ...]:
        """Return how the tasks ended that this one waited for."""
        results: list[JsonObject] = []
        for task_id in task.after:
            get = partial(self._parts.store.get, task.tenant, task_id)
            try:
                ended = await self._insist(get)
            except TaskNotFound:
                result, status = None, "unknown"
            else:
                result, status = ended.result, ended.status.value
            if result is None and task.after_failure == "fail":
                raise AgentFailed(
                    f"task {task_id} ended {status}, and this one needs its"
                    " answer; retry this one to have both done again, or submit with"
                    " after_failure=run",
                    code="dependency_failed",
                )
            results.append(
                {
                    "task_id": task_id,
                    "status": status,
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
