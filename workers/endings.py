"""The endings that an executor stores for runs that gave no answer of their own."""

from __future__ import annotations

from orchestrator.errors import PayloadTooLarge
from orchestrator.store import Ending
from orchestrator.task import TaskFailure, TaskStatus
from workers.errors import AgentFailed
from workers.run import Interrupt, Run


def forced_ending(run: Run, error: BaseException | None) -> Ending | None:
    """How an interrupt ends the task of a stopped run, if it does."""
    match run.interrupt_reason:
        case Interrupt.CANCEL:
            return Ending(status=TaskStatus.CANCELLED)
        case Interrupt.HARD_LIMIT:
            limit = f"time limit of {run.task.time_limit_seconds} s"
            return _timed_out(run, "time_limit", limit)
        case Interrupt.DEADLINE:
            limit = f"deadline of {run.task.deadline_seconds} s after acceptance"
            return _timed_out(run, "deadline", limit)
        case Interrupt.SOFT_LIMIT if error is None:
            return _soft_limit_without_answer(run)
        case _:
            return None


def cancelled_itself() -> AgentFailed:
    return AgentFailed(
        "the agent raised CancelledError although nobody had cancelled it; catch it"
        " where the agent awaits something that can be cancelled",
        code="agent_cancelled_itself",
    )


def too_large(run: Run, what: str, size: int, limit: int) -> Ending:
    failure = TaskFailure(
        code=f"{what}_too_large",
        message=str(PayloadTooLarge(what, size=size, limit=limit)),
        attempt=run.task.attempt,
    )
    return Ending(status=TaskStatus.FAILED, failure=failure)


def _timed_out(run: Run, code: str, limit: str) -> Ending:
    failure = TaskFailure(
        code=code,
        message=(
            f"the {limit} passed without an answer; raise {code} or give the agent less"
            " to do"
        ),
        attempt=run.task.attempt,
    )
    return Ending(status=TaskStatus.TIMED_OUT, failure=failure)


def _soft_limit_without_answer(run: Run) -> Ending:
    failure = TaskFailure(
        code="soft_time_limit",
        message=(
            f"the soft time limit of {run.task.soft_time_limit_seconds} s passed and"
            " the agent gave no answer; raise soft_time_limit"
        ),
        attempt=run.task.attempt,
    )
    return Ending(status=TaskStatus.FAILED, failure=failure)
