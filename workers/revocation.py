"""Celery's revoke cancels the task as its own cancel does, in every pool.

Celery itself would kill a prefork child with whatever else it holds, and cannot stop a
run in `threads`: there a cold shutdown (SIGQUIT, Ctrl-C twice) fails in the middle. The
message's id is the task's id, so `celery control terminate TERM <id>` and Flower's
button name our tasks.
"""

from __future__ import annotations

from typing import Any

from celery import signals
from celery.concurrency.base import BasePool
from celery.worker import state
from celery.worker.request import Request

from orchestrator.celery_settings import RUN_TASK
from workers.bootstrap import worker_process


class RunRequest(Request):  # type: ignore[misc]
    """A doorbell that was taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._before: Any = state.requests.get(self.id)
        """The one that rang for the same task and has not ended yet."""

    def on_failure(self, *args: Any, **kwargs: Any) -> Any:
        """Take the end; so are refused those that ring for a task that runs here.

        Celery finds a request by its id, and forgets the one that runs along with the
        refused one: a revoke would not reach it any more.
        """
        result = super().on_failure(*args, **kwargs)
        before = self._before
        while before is not None and before not in state.active_requests:
            before = getattr(before, "_before", None)
        self._before = before
        if before is not None:
            state.requests.setdefault(self.id, before)
        return result

    def terminate(self, pool: Any, signal: Any = None) -> None:  # noqa: ARG002
        """Cancel the run; the pool is left alone."""
        _cancel(self.kwargs)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Give the run up for a cold shutdown; another worker goes on with it."""
        worker_process.abandon()  # first, so that what is ended then is released
        if _can_end_jobs(pool):
            super().cancel(pool, signal, emit_retry)


def _can_end_jobs(pool: Any) -> bool:
    """Whether a pool can end what it runs: not in `threads` and `solo`."""
    method = getattr(pool.terminate_job, "__func__", None)
    return method is not BasePool.terminate_job


def _cancel_unstarted(sender: Any, request: Any, terminated: bool, **_: Any) -> None:
    """Cancel a task whose doorbell Celery dropped, or it would be rung for again."""
    if sender is not None and sender.name == RUN_TASK and not terminated:
        _cancel(request.kwargs)


def _cancel(arguments: Any) -> None:
    tenant, task_id = arguments.get("tenant"), arguments.get("task_id")
    if isinstance(tenant, str) and isinstance(task_id, str):
        worker_process.cancel(tenant, task_id)


signals.task_revoked.connect(_cancel_unstarted, weak=False)
