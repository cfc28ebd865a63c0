"""Webhooks on the end of a task: where they may go, what they say, how they are signed.

Pure: sends nothing. The signature is that of standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from conversations.json_value import JsonObject, dumps
from orchestrator.task import Task
from orchestrator.webhook_secret import signing_key

_PORTS: Final = {"http": 80, "https": 443}


def is_allowed(url: str, allowed: Sequence[str]) -> bool:
    """Whether a URL has scheme, host, port and begin of path of one of the allowed."""
    if not url.isprintable() or " " in url:  # `urlsplit` would leave such out
        return False
    return any(_covers(prefix, url) for prefix in allowed)


def receiver_of(url: str) -> str:
    """Return what names the server of a URL, however the URL writes it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return url
    if host is None or port in (None, _PORTS.get(parts.scheme)):
        return host or url
    return f"{host}:{port}"


def webhook_body(task: Task) -> bytes:
    """Return what is sent about an ended task; the same for every delivery."""
    data: JsonObject = {
        "task_id": task.id,
        "tenant": task.tenant,
        "agent": task.agent_name,
        "status": task.status.value,
        "tags": [*task.tags],
        "metadata": task.metadata,
        "result": task.result.model_dump(mode="json") if task.result else None,
        "failure": task.failure.model_dump(mode="json") if task.failure else None,
    }
    ended = task.finished_at.isoformat() if task.finished_at else None
    message = {"type": f"task.{task.status.value}", "timestamp": ended, "data": data}
    return dumps(message).encode()


def webhook_headers(
    task: Task, body: bytes, *, secret: str, sent_at: datetime
) -> dict[str, str]:
    """Return the headers by which a receiver checks origin, age and repetition."""
    message_id, seconds = f"msg_{task.id}", str(int(sent_at.timestamp()))
    signed = b".".join([message_id.encode(), seconds.encode(), body])
    digest = hmac.digest(signing_key(secret), signed, "sha256")
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _covers(prefix: str, url: str) -> bool:
    try:
        wanted, given = urlsplit(prefix), urlsplit(url)
        ports = [part.port or _PORTS.get(part.scheme) for part in (wanted, given)]
    except ValueError:
        return False
    same_place = (
        given.scheme in _PORTS
        and (wanted.scheme, wanted.hostname, ports[0])
        == (given.scheme, given.hostname, ports[1])
        and not given.username
        and not given.password
    )
    return same_place and _path_covers(wanted.path.rstrip("/"), given.path)


def _path_covers(prefix: str, path: str) -> bool:
    if ".." in path or "%" in path or "\\" in path:
        return False
    return path == prefix or path.startswith(f"{prefix}/") or not prefix
