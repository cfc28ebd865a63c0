"""Celery's events of tasks, not even written while nobody listens to them.

The transport knows who listens (`workers/listeners.py`); it would drop a flood anyway.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from celery.app.events import Events
from celery.events import EventDispatcher

_OF_TASKS = "task-"
MOST_UNSENT: Final = 100
"""Batches of events that are kept while they cannot be sent; the newest are."""


class Dispatcher(EventDispatcher):  # type: ignore[misc] # untyped
    """Sends a worker's events."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbound_buffer: deque[Any] = deque(maxlen=MOST_UNSENT)

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what waits to be sent.

        Celery keeps all that could not be and tries each again, each time: a worker
        whose Redis user may not publish did little else after some hundred tasks, and
        one whose broker is silent heard nothing meanwhile.
        """
        if errors:
            with self.mutex:
                self._send_unsent()
                if self._outbound_buffer:
                    self._leave_unsent()
        super().flush(errors=False, groups=groups)

    def _send_unsent(self) -> None:
        """Until one cannot be sent again, which then waits behind the others."""
        unsent = self._outbound_buffer
        while unsent and not self._closed:
            left = len(unsent)
            event, routing_key = unsent.popleft()
            self._publish(event, self.producer, routing_key)
            if len(unsent) == left:
                return

    def _leave_unsent(self) -> None:
        """Put the batch that is due behind what could not be sent either."""
        for group, events in self._group_buffer.items():
            if events:
                batch = list(events)
                self._outbound_buffer.append((batch, f"{group}.multi"))
                del events[: len(batch)]  # other threads append meanwhile

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
