"""The one Celery task: it is told two ids and hands them to the process's executor."""

from __future__ import annotations

from celery import shared_task

from orchestrator.celery_settings import RUN_TASK
from workers.bootstrap import worker_process


@shared_task(name=RUN_TASK, ignore_result=True, acks_late=False)
def run(tenant: str, task_id: str) -> str:
    """Run a task to an end of its attempt; return one word for Flower."""
    return worker_process.current().run(tenant, task_id)
