"""The text of a Celery message, for scripts that ring by themselves.

Celery's protocol 2 in kombu's envelope for Redis, as `queue.py` would send it; a test
holds the two against each other. Knows no broker.
"""

from __future__ import annotations

from typing import Any, Final

from conversations.json_value import dumps
from orchestrator.celery_settings import RUN_TASK

ORIGIN: Final = "celeriac"
"""One text for all processes: one script in Redis."""


def doorbell_message() -> str:
    """Return the message with `$TENANT`, `$TASK` and so on in place of its facts."""
    body: list[Any] = [[], {"tenant": "$TENANT", "task_id": "$TASK"}, {}]
    headers: dict[str, Any] = {
        "lang": "py",
        "task": RUN_TASK,
        "id": "$TASK",
        "shadow": "agent.$AGENT",
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "$TASK",
        "parent_id": None,
        "argsrepr": "($TASK)",
        "kwargsrepr": "{tenant: $TENANT}",
        "origin": ORIGIN,
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        "traceparent": "$TRACE",
    }
    properties: dict[str, Any] = {
        "correlation_id": "$TASK",
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "$QUEUE"},
        "priority": "$URGENCY",
        "body_encoding": "utf-8",
        "delivery_tag": "$TAG",
    }
    envelope = {
        "body": dumps(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    text = dumps(envelope)
    for bare in ("$URGENCY", "$TRACE"):  # no text, or null
        text = text.replace(f'"{bare}"', bare)
    return text
