"""Celery's events of tasks, not even written while nobody listens to them.

The transport knows who listens (`workers/listeners.py`); it would drop a flood anyway.
"""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events import EventDispatcher

_OF_TASKS = "task-"


class Dispatcher(EventDispatcher):  # type: ignore[misc] # untyped
    """Sends a worker's events."""

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002 - Celery's
        if type.startswith(_OF_TASKS) and self._is_unheard():
            return None
        # Celery sends its heartbeats until they arrive. A worker whose broker is silent
        # would hear nothing else meanwhile, SIGTERM not either; the next one tells all.
        return super().send(type, *args, **(fields | {"retry": False}))

    def _is_unheard(self) -> bool:
        channel = self.producer.channel if self.enabled and self.producer else None
        return bool(getattr(channel, "nobody_listens", False))


class TaskEvents(Events):  # type: ignore[misc]
    """The application's `events`."""

    dispatcher_cls = Dispatcher
