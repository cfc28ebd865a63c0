"""How an attempt's end is stored: finished, failed, parked or released.

Owns the order in which the causes of an end are asked. Knows nothing of Celery.
"""

from __future__ import annotations

import asyncio
import logging

from conversations.errors import RedactionFailed
from conversations.shortening import shortened
from orchestrator.errors import LeaseLost, QueueUnavailable
from orchestrator.store import Doorbell, Ending, Turn
from orchestrator.task import RetryPolicy, TaskFailure, TaskStatus
from workers.agent_manager import Execution
from workers.endings import cancelled_itself, forced_ending, result_size, too_large
from workers.errors import GateClosed
from workers.executor_parts import ExecutorLimits, ExecutorParts, Outcome
from workers.own_code import place_of
from workers.retry import decide, describe
from workers.run import Interrupt, Run
from workers.run_log import StoreRunLog

logger = logging.getLogger(__name__)

_DRAINS = (Interrupt.DRAIN, Interrupt.GRACE_OVER)


class Settlement:
    """Stores how runs end."""

    def __init__(self, parts: ExecutorParts, *, limits: ExecutorLimits) -> None:
        self._parts = parts
        self._limits = limits

    async def settle(
        self, run: Run, agent: asyncio.Task[Execution], log: StoreRunLog
    ) -> Outcome:
        """Store how the agent's task ended, or that it goes on later.

        Raises:
            LeaseLost: the run is another worker's now.
            StoreUnavailable: it stayed away for longer than is waited for.
        """
        stopped = agent.cancelled() or not agent.done()
        error = None if stopped else agent.exception()
        if not stopped and error is None:
            return await self._finish(run, log, self._completed(run, agent.result()))
        if isinstance(error, LeaseLost) or (
            run.interrupt_reason is Interrupt.LEASE_LOST
        ):
            raise LeaseLost(run.task.id, fence=run.task.attempt)
        ending = forced_ending(run, error)
        if ending is not None:
            return await self._finish(run, log, ending)
        if run.interrupt_reason is Interrupt.PARK:
            return await self._park(run, log)
        if error is None and run.interrupt_reason in _DRAINS:
            return await self._release(run, log, reason="worker shutting down")
        return await self._failed(run, log, error or cancelled_itself())

    async def _failed(
        self, run: Run, log: StoreRunLog, error: BaseException
    ) -> Outcome:
        if isinstance(error, GateClosed):
            return await self._release(
                run,
                log,
                reason=str(error),
                code=error.code,
                delay_seconds=error.seconds,
            )
        failure = describe(error, attempt=run.task.attempt)
        decision = decide(
            error,
            failed_attempts=run.task.failed_attempts,
            policy=run.task.retry or self._policy_of(run),
        )
        is_foreseen = failure.code != "agent_error"
        logger.log(
            logging.INFO if is_foreseen else logging.WARNING,
            "attempt failed",
            extra={
                "task_id": run.task.id,
                "attempt": run.task.attempt,
                "code": failure.code,
                "again": decision.again,
                "at": None if is_foreseen else place_of(error),
            },
        )
        if decision.again:
            return await self._release(
                run,
                log,
                reason=f"retry after {failure.code}",
                code=failure.code,
                delay_seconds=decision.delay_seconds,
                failure=failure,
            )
        ending = Ending(status=TaskStatus.FAILED, failure=failure)
        return await self._finish(run, log, ending)

    def _policy_of(self, run: Run) -> RetryPolicy:
        return self._parts.manager.get_config(run.task.agent_name).retry

    def _completed(self, run: Run, execution: Execution) -> Ending:
        limit = self._limits.max_result_bytes
        if (size := result_size(execution.result, limit)) > limit:
            return too_large(run, "result", size, limit)
        turn = None
        if run.task.conversation_id is not None:
            most = self._limits.max_message_bytes
            turn = Turn(
                messages=tuple(shortened(m, max_bytes=most) for m in execution.turn),
                config=self._parts.conversation_config,
                conversation_id=run.task.conversation_id,
            )
        return Ending(status=TaskStatus.COMPLETED, result=execution.result, turn=turn)

    async def _finish(self, run: Run, log: StoreRunLog, ending: Ending) -> Outcome:
        seconds = run.running_seconds()
        try:
            doorbells = await log.finish(ending, running_seconds=seconds)
        except RedactionFailed as exc:
            failure = describe(exc, attempt=run.task.attempt)
            ending = Ending(status=TaskStatus.FAILED, failure=failure)
            return await self._finish(run, log, ending)
        await self.ring(doorbells)
        code = ending.failure.code if ending.failure else ""
        return Outcome(ending.status.value, code)

    async def _park(self, run: Run, log: StoreRunLog) -> Outcome:
        seconds = run.running_seconds()
        await self.ring(await log.park(run.awaited, running_seconds=seconds))
        return Outcome("waiting")

    async def _release(
        self,
        run: Run,
        log: StoreRunLog,
        *,
        reason: str,
        code: str = "",
        delay_seconds: float = 0.0,
        failure: TaskFailure | None = None,
    ) -> Outcome:
        doorbells = await log.release(
            running_seconds=run.running_seconds(),
            delay_seconds=delay_seconds,
            reason=reason,
            failure=failure,
        )
        await self.ring(doorbells)
        return Outcome("released", code)

    async def ring(self, doorbells: tuple[Doorbell, ...]) -> None:
        """Ring for tasks that may run now."""
        if not doorbells:
            return
        try:
            await self._parts.queue.enqueue(doorbells)
        except QueueUnavailable:
            logger.warning("doorbell not rung; the sweeper will", exc_info=True)
