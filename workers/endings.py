"""The endings that an executor stores for runs that gave no answer of their own."""

from __future__ import annotations

from typing import Final

from conversations.json_value import BYTES_OF_A_CHARACTER, size_of, written
from orchestrator.errors import PayloadTooLarge
from orchestrator.store import Ending
from orchestrator.task import TaskFailure, TaskResult, TaskStatus
from workers.errors import AgentFailed, SoftTimeLimitReached
from workers.run import Interrupt, Run

_AROUND_BYTES: Final = 1024
"""More than a result's other fields take."""


def forced_ending(run: Run, error: BaseException | None) -> Ending | None:
    """How an interrupt ends the task of a stopped run, if it does."""
    match run.interrupt_reason:
        case Interrupt.CANCEL:
            return Ending(status=TaskStatus.CANCELLED)
        case Interrupt.HARD_LIMIT:
            limit = f"time limit of {run.task.time_limit_seconds} s"
            return _timed_out(run, "time_limit", limit, _limit(run, "time_limit"))
        case Interrupt.DEADLINE:
            limit = f"deadline of {run.task.deadline_seconds} s after acceptance"
            return _timed_out(run, "deadline", limit, "deadline")
        case Interrupt.SOFT_LIMIT if isinstance(error, SoftTimeLimitReached | None):
            return _soft_limit_without_answer(run)
        case _:
            return None


def cancelled_itself() -> AgentFailed:
    return AgentFailed(
        "the agent raised CancelledError although nobody had cancelled it; catch it"
        " where the agent awaits something that can be cancelled",
        code="agent_cancelled_itself",
    )


def result_size(result: TaskResult, limit: int) -> int:
    """Bytes of a result as it is stored; of one surely within the limit, the most."""
    output = 0 if result.output is None else size_of(result.output)
    most = _AROUND_BYTES + BYTES_OF_A_CHARACTER * len(result.content) + output
    return most if most <= limit else len(written(result).encode())


def too_large(run: Run, what: str, size: int, limit: int) -> Ending:
    failure = TaskFailure(
        code=f"{what}_too_large",
        message=str(PayloadTooLarge(what, size=size, limit=limit)),
        attempt=run.task.attempt,
    )
    return Ending(status=TaskStatus.FAILED, failure=failure)


def _limit(run: Run, name: str) -> str:
    """Return what must be raised: the limit of the task, or that of its worker."""
    field = f"{name}_seconds"
    is_own = getattr(run.task, field) == getattr(run.recorded, field)
    return name if is_own else f"--{name.replace('_', '-')} of its worker"


def _timed_out(run: Run, code: str, limit: str, to_raise: str) -> Ending:
    failure = TaskFailure(
        code=code,
        message=(
            f"the {limit} passed without an answer; raise {to_raise} or give the agent"
            " less to do"
        ),
        attempt=run.task.attempt,
    )
    return Ending(status=TaskStatus.TIMED_OUT, failure=failure)


def _soft_limit_without_answer(run: Run) -> Ending:
    failure = TaskFailure(
        code="soft_time_limit",
        message=(
            f"the soft time limit of {run.task.soft_time_limit_seconds} s passed and"
            f" the agent gave no answer; raise {_limit(run, 'soft_time_limit')}"
        ),
        attempt=run.task.attempt,
    )
    return Ending(status=TaskStatus.FAILED, failure=failure)
