"""A message that a worker has taken, as Celery is given it.

What it may say was judged by `task_message.py`: its body is decoded, its headers are
ours, and Celery finds nothing to read in it.
"""

from __future__ import annotations

from typing import Any

from kombu.message import Message
from kombu.transport import virtual

from workers.task_message import TaskCall


class TaskMessage(virtual.Message):  # type: ignore[misc]
    """A call of a task in a worker's hand."""

    def __init__(
        self,
        call: TaskCall,
        *,
        channel: Any,
        tag: int,
        queue: str,
        key: str,
        raw: bytes,
    ) -> None:
        """Make one of what was read.

        Args:
            call: What the message says.
            channel: Where it is acknowledged.
            tag: Names it there.
            queue: Whence it came.
            key: The list of that queue and of its priority.
            raw: Its text, by which it can go back.
        """
        Message.__init__(
            self,
            body=[call.args, call.kwargs, {}],
            delivery_tag=tag,
            delivery_info={"exchange": "", "routing_key": queue},
            properties={"priority": call.priority},
            headers={
                **call.labels,
                "id": call.id,
                "task": call.name,
                "ignore_result": call.ignore_result,
                "headers": call.own_headers(),
            },
            channel=channel,
        )
        self._decoded_cache = self.body
        self.key = key
        self.raw = raw
