"""The one Celery task: it is told two ids and hands them to the process's executor.

What Celery and Flower see of a task is its outcome as their own state, and no text that
could hold what a user wrote.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery import Task, shared_task, signals
from celery.exceptions import Ignore, Retry

from orchestrator.celery_settings import RUN_TASK
from workers.bootstrap import worker_process
from workers.executor import Outcome
from workers.revocation import RunRequest


class AgentTaskFailed(Exception):
    """A task ended without an answer; its record says why."""


class AttemptReleased(Exception):
    """An attempt ended and its task did not; Flower shows the reason."""


def _no_limit(_: Task) -> None:
    return None


def _refuse_limit(_: Task, _seconds: float | None) -> NoReturn:
    raise ValueError(
        f"{RUN_TASK} takes no time_limit while it is served; limits are those of the"
        " task, its agent or task_timeout, or start the worker with --time-limit"
    )


class RunTask(Task):  # type: ignore[misc]
    """Takes no limit of `celery control time_limit`: it would cut runs off."""

    soft_time_limit = property(_no_limit, _refuse_limit)
    time_limit = property(_no_limit, _refuse_limit)


@shared_task(
    base=RunTask,
    name=RUN_TASK,
    bind=True,
    ignore_result=True,
    acks_late=False,
    throws=(AgentTaskFailed,),
    Request=RunRequest,
)
def run(self: Any, tenant: str, task_id: str) -> str:
    """Run a task to an end of its attempt."""
    return report(worker_process.current().run(tenant, task_id), celery_task=self)


def report(outcome: Outcome, *, celery_task: Any) -> str:
    """Tell Celery what became of the message.

    Raises:
        AgentTaskFailed: shown as FAILURE with the failure's code.
        Retry: the task is pending again; shown as RETRY.
        Ignore: nothing was run here, so nothing is shown; or the task was cancelled,
            which was shown as REVOKED.
    """
    match outcome.word:
        case "completed":
            return outcome.word
        case "failed" | "timed_out":
            raise AgentTaskFailed(outcome.code)
        case "released":
            reason = outcome.code or "worker shutting down"
            raise Retry(reason, exc=AttemptReleased(reason))
        case "cancelled":
            facts = {"terminated": True, "signum": None, "expired": False}
            celery_task.send_event("task-revoked", **facts)
            signals.task_revoked.send(
                sender=celery_task, request=celery_task.request, **facts
            )
            raise Ignore(outcome.word)
        case _:
            raise Ignore(outcome.word)
