"""Celery's settings, derived from ours: one table for workers, clients and Flower.

The store is the truth, so messages carry ids only, are acknowledged on receipt, are
pulled only when a slot is free, and leave no result behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from orchestrator.settings import Settings
from orchestrator.task import DEFAULT_QUEUE

RUN_TASK: Final = "celeriac.run"
"""The name of the one Celery task."""
VISIBILITY_TIMEOUT_SECONDS: Final = 86_400
"""Messages are acknowledged on receipt, so kombu never has one to restore."""
SOCKET_TIMEOUT_SECONDS: Final = 5.0
"""Above kombu's blocking pop of one second."""

CHILD_START_SECONDS: Final = 60.0
"""Celery kills a child that is not up by then; its 4 s are short on a busy machine."""


def queue_names(settings: Settings) -> tuple[str, ...]:
    """Return the queues of the configured agents, the default one first."""
    others = {agent.queue for agent in settings.agents.values()} - {DEFAULT_QUEUE}
    return (DEFAULT_QUEUE, *sorted(others))


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration."""
    broker_url = settings.storage.kombu_url
    return {
        "broker_url": broker_url,
        # Celery reads CELERY_BROKER_URL itself, as it stands, but for these two.
        "broker_read_url": broker_url,
        "broker_write_url": broker_url,
        "result_backend": None,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_ignore_result": True,
        "task_default_queue": DEFAULT_QUEUE,
        "task_queues": _queues(queue_names(settings)),
        "task_create_missing_queues": True,
        "task_acks_late": False,
        "task_track_started": False,
        "task_send_sent_event": False,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_concurrency": settings.services.agent_manager.max_concurrent_tasks,
        "worker_pool": "workers.pool:AsyncPool",
        "worker_consumer": "workers.rate_limits:RateLimitedConsumer",
        "worker_proc_alive_timeout": CHILD_START_SECONDS,
        "worker_enable_prefetch_count_reduction": False,
        "worker_hijack_root_logger": True,
        "worker_redirect_stdouts": False,
        # Nothing of ours is acknowledged late, so none is cancelled; without this each
        # lost connection warns of what late acknowledgement would do.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A Redis that turned read-only refuses the pop; without this the worker ends.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
            "queue_order_strategy": "round_robin",
            "accept_tasks": [RUN_TASK],
            "max_connections": 200,
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": 2.0,
            "socket_keepalive": True,
        },
    }


def _queues(names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {name: {"exchange": name, "routing_key": name} for name in names}
