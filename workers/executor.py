"""A task's run from claim to end, as one pipeline; the same in every pool.

Owns the order of things; `settlement` stores how a run ends. Knows nothing of Celery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine
from functools import partial
from typing import Any, Final

from conversations.errors import ConversationNotFound
from conversations.json_value import JsonObject, loads
from conversations.view import ConversationView
from orchestrator.errors import LeaseLost, StoreUnavailable
from orchestrator.journal import Journal
from orchestrator.store import Claim, FirstStep, RefusalReason, TaskEnd
from orchestrator.task import Task
from orchestrator.trace_context import carry
from workers.agent_manager import Execution, RunStart
from workers.completion_marks import FIRST_COMPLETION
from workers.errors import AgentFailed
from workers.executor_parts import ExecutorLimits, ExecutorParts, Outcome
from workers.insistence import Insistence
from workers.run import AGENT_STOP_SECONDS, Interrupt, Run
from workers.run_log import StoreRunLog
from workers.settlement import Settlement

__all__ = ["Executor", "ExecutorLimits", "ExecutorParts", "Outcome"]

logger = logging.getLogger(__name__)

_RESULTS: Final = "results"
"""The key of the step that keeps what a run was given of the tasks before it."""
_ENDS_AT_ONCE: Final = 100
"""How many ends of other tasks are read in one trip; each may be some MiB."""


class _Arrival:
    """A call that may have claimed its task already; several may be of one task."""

    is_cancelled = False

    def __init__(self, tenant: str, task_id: str) -> None:
        self.key = tenant, task_id


class Executor:
    """Runs claimed tasks; holds the runs of this process."""

    def __init__(
        self, parts: ExecutorParts, *, worker: str, limits: ExecutorLimits
    ) -> None:
        self._parts = parts
        self._limits = limits
        self.worker = worker
        self._insist = Insistence(patience_seconds=limits.store_patience_seconds)
        self._settlement = Settlement(parts, limits=limits)
        self.runs: dict[tuple[str, str], Run] = {}
        self._arrivals: set[_Arrival] = set()
        self.draining = False
        self._is_grace_over = False

    async def run(self, tenant: str, task_id: str) -> Outcome:
        """Claim a task and run it to an end of its attempt.

        Raises nothing for what may happen to a run: the record tells.
        """
        arrival = _Arrival(tenant, task_id)
        self._arrivals.add(arrival)
        try:
            claim = await self._claim(tenant, task_id)
            if isinstance(claim, RefusalReason):
                return Outcome(claim.value)
            await self._settlement.ring(claim.doorbells)
        except StoreUnavailable as exc:
            logger.warning(
                "not claimed; the task is rung for again",
                extra={"task_id": task_id, "error": str(exc)},
            )
            return Outcome("store_unavailable")
        finally:
            self._arrivals.discard(arrival)
        run, log = self._take_on(claim)
        facts = {"task_id": task_id, "attempt": run.task.attempt}
        execution = self._execute(run, claim, log)
        del claim  # what it has read is held no longer than the run needs it
        try:
            return await self._run_claimed(
                run, execution, log, is_cancelled=arrival.is_cancelled
            )
        except LeaseLost:
            logger.warning("run stopped: its lease was lost", extra=facts)
            return Outcome("lease_lost")
        except StoreUnavailable as exc:
            logger.warning(  # of a thousand runs, at the end of a worker
                "ending not stored; the sweeper will recover the task",
                extra=facts | {"error": str(exc)},
            )
            return Outcome("store_unavailable")
        finally:
            run.stop()
            log.leave()
            if self.runs.get(run.key) is run:
                del self.runs[run.key]

    def _take_on(self, claim: Claim) -> tuple[Run, StoreRunLog]:
        """Hold a claimed run, in the place of one whose lease must be lost."""
        run = Run(
            self._limits.bound(claim.task),
            lease=claim.lease,
            recorded=claim.task,
            deadline_left_seconds=claim.deadline_left_seconds,
        )
        earlier = self.runs.get(run.key)
        if earlier is not None:
            earlier.interrupt(Interrupt.LEASE_LOST)
        self.runs[run.key] = run
        if self.draining:
            run.interrupt(Interrupt.DRAIN)
        return run, self._log_of(claim)

    def cancel(self, tenant: str, task_id: str) -> None:
        """Stop a task's run, if it is here or on its way; the record says so already.

        Whoever cancels learns of the claim before the answer to it has come here.
        """
        key = tenant, task_id
        if key in self.runs:
            self.runs[key].interrupt(Interrupt.CANCEL)
        for arrival in self._arrivals:
            if arrival.key == key:
                arrival.is_cancelled = True

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
        """Take no more tasks and release the runs at once, where they stand.

        A cold shutdown asks for it once for each of them.
        """
        self.draining = True
        self._end_grace()

    def _end_grace(self) -> None:
        if self._is_grace_over:
            return
        self._is_grace_over = True
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
            first=FirstStep(FIRST_COMPLETION, self._asking_at_once()),
        )

    def _asking_at_once(self) -> Collection[str]:
        """A manager that does not say it has none."""
        names: Collection[str] = getattr(self._parts.manager, "asking_at_once", ())
        return names

    def _log_of(self, claim: Claim) -> StoreRunLog:
        log = StoreRunLog(
            self._parts.store,
            lease=claim.lease,
            insist=self._insist,
            ring=self._settlement.ring,
            task=claim.task,
            has_mail=claim.has_mail,
        )
        if claim.begun is not None:
            log.begun(FIRST_COMPLETION.key, claim.begun)
        return log

    async def _run_claimed(
        self,
        run: Run,
        execution: Coroutine[Any, Any, Execution],
        log: StoreRunLog,
        *,
        is_cancelled: bool,
    ) -> Outcome:
        agent = asyncio.create_task(execution)
        has_left = run.start(agent)
        if self._is_grace_over:
            run.interrupt(Interrupt.GRACE_OVER)
        if is_cancelled:
            run.interrupt(Interrupt.CANCEL)
        try:
            await has_left
        except asyncio.CancelledError:
            if not self._still_ends():
                agent.cancel()
                await asyncio.wait({agent}, timeout=AGENT_STOP_SECONDS)
                if agent.done():
                    await log.take_back()
                raise
            await asyncio.wait({agent}, timeout=AGENT_STOP_SECONDS)
        try:
            return await self._end(run, agent, log)
        except asyncio.CancelledError:
            if not self._still_ends():
                raise
            return await self._end(run, agent, log)  # what is written may be repeated

    def _still_ends(self) -> bool:
        """Whether a run's end is stored although its Celery task has just been ended.

        A cold shutdown gives all runs up, then ends their tasks one by one; once each,
        so that another cancel is of the loop, which closes.
        """
        current = asyncio.current_task()
        is_first = current is not None and current.cancelling() == 1
        return is_first and self._is_grace_over

    async def _end(
        self, run: Run, agent: asyncio.Task[Execution], log: StoreRunLog
    ) -> Outcome:
        if agent.done():
            await log.take_back()
        else:
            logger.error(
                "agent ignores its cancel and is left behind",
                extra={"task_id": run.task.id, "agent": run.task.agent_name},
            )
        return await self._settlement.settle(run, agent, log)

    async def _execute(self, run: Run, claim: Claim, log: StoreRunLog) -> Execution:
        carry(claim.task.traceparent)
        with run.recording():  # a soft limit waits for the agent, which then answers
            start = await self._start_of(run, claim, log)
        del claim
        return await self._parts.manager.execute_run(start)

    async def _start_of(self, run: Run, claim: Claim, log: StoreRunLog) -> RunStart:
        view = await self._view_of(claim)
        results = await self._results_of(claim, log) if claim.task.after else ()
        return RunStart(
            run=run,
            results=results,
            log=log,
            journal=Journal(claim.steps, claim.starts, claim.decisions, claim.read_at),
            view=view,
        )

    async def _results_of(
        self, claim: Claim, log: StoreRunLog
    ) -> tuple[JsonObject, ...]:
        """Return how the tasks ended that this one waited for, as it began with them.

        A run that waits for a person may outlive their records.
        """
        given = next((step for step in claim.steps if step.key == _RESULTS), None)
        if given is not None:
            return tuple(loads(str(given.outcome)))
        results = [each async for each in self._read_results(claim.task)]
        log.keep_for_later(_RESULTS, [*results])
        return tuple(results)

    async def _read_results(self, task: Task) -> AsyncIterator[JsonObject]:
        async for task_id, end in self._ends_of(task):
            result = end.result if end else None
            status = end.status.value if end else "unknown"
            if result is None and task.after_failure == "fail":
                raise AgentFailed(
                    f"task {task_id} ended {status}, and this one needs its"
                    " answer; retry this one to have both done again, or submit with"
                    " after_failure=run",
                    code="dependency_failed",
                )
            yield {
                "task_id": task_id,
                "status": status,
                "content": result.content if result else "",
                "output": result.output if result else None,
            }

    async def _ends_of(self, task: Task) -> AsyncIterator[tuple[str, TaskEnd | None]]:
        store, after = self._parts.store, task.after
        for first in range(0, len(after), _ENDS_AT_ONCE):
            ids = after[first : first + _ENDS_AT_ONCE]
            ends = await self._insist(partial(store.ends, task.tenant, ids))
            for task_id, end in zip(ids, ends, strict=True):
                yield task_id, end

    async def _view_of(self, claim: Claim) -> ConversationView | None:
        conversations, task = self._parts.conversations, claim.task
        conversation_id = task.conversation_id
        if conversation_id is None:
            return None
        if conversations is None:
            raise AgentFailed(
                "the conversations service is disabled on this worker;"
                " set services.conversations.enabled: true",
                code="service_disabled",
            )
        new = ConversationView(config=self._parts.conversation_config)
        if claim.begins_conversation:
            return new
        read = partial(
            conversations.view, conversation_id, tenant=task.tenant, read=claim.window
        )
        try:
            return await self._insist(read)
        except ConversationNotFound:
            return new
