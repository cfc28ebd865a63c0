"""What a Celery message must look like to reach a task, judged before Celery sees it.

A message is a doorbell: it names a task and its arguments and has no other authority.
Limits, retries, delays and links that it claims are left out. Knows no broker.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from conversations.json_value import loads
from workers.errors import WorkerError

MAX_MESSAGE_BYTES = 1024 * 1024
"""A doorbell has less than two kilobytes; other Celery tasks carry arguments."""
MAX_NAME_CHARACTERS = 255
"""Of ids, task names and delivery tags."""
MAX_LABEL_CHARACTERS = 2048
"""Of what is only shown: Celery cuts argsrepr at 1024."""
TRACE_LABELS = ("traceparent", "tracestate", "baggage")
KEPT_LABELS = (
    "shadow",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "root_id",
    "parent_id",
    *TRACE_LABELS,
)
"""Headers passed on when they are text: shown, or linking a trace."""


class MalformedMessage(WorkerError, ValueError):
    """The broker handed over something that is no message for a task."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        """Stable name of the kind of fault, for the count."""
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCall:
    """All that is taken from a message."""

    id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    labels: dict[str, str]
    ignore_result: bool | None
    priority: int

    def own_headers(self) -> dict[str, str]:
        """Headers that are none of Celery's, which it would look for in all of them."""
        labels = self.labels
        return {name: labels[name] for name in TRACE_LABELS if name in labels}


def parse_task_call(raw: bytes, *, accept: Container[str] | None) -> TaskCall:
    """Read a message of Celery's protocol 2.

    Only JSON is read, and nothing in it becomes more than JSON.

    Args:
        raw: the message as it lay in the queue.
        accept: the names of tasks that may be called; None leaves them to Celery.

    Raises:
        MalformedMessage: it is not one, or calls another task.
    """
    envelope = _read_json(raw, "message")
    if not isinstance(envelope, dict):
        raise MalformedMessage(
            "not_an_object", f"message is a JSON {type(envelope).__name__}, no object"
        )
    headers = _mapping(envelope, "headers")
    properties = _mapping(envelope, "properties")
    _name(properties, "delivery_tag")
    task_id = _name(headers, "id")
    name = _name(headers, "task")
    if accept is not None and name not in accept:
        raise MalformedMessage("foreign_task", f"task {name!r} is not served here")
    args, kwargs = _read_arguments(envelope, headers, properties)
    ignore_result = headers.get("ignore_result")
    priority = properties.get("priority")
    return TaskCall(
        id=task_id,
        name=name,
        args=args,
        kwargs=kwargs,
        labels=_labels(headers),
        ignore_result=ignore_result if isinstance(ignore_result, bool) else None,
        priority=priority if isinstance(priority, int) else 0,
    )


def _read_json(raw: bytes, field: str) -> Any:
    if len(raw) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(
            "too_large", f"{field} has {len(raw)} bytes, at most {MAX_MESSAGE_BYTES}"
        )
    try:
        return loads(raw.decode())
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(
            "not_json",
            f"{field} of {len(raw)} bytes is not JSON ({type(exc).__name__})",
        ) from exc


def _mapping(envelope: dict[str, Any], field: str) -> dict[str, Any]:
    value = envelope.get(field)
    if not isinstance(value, dict):
        raise MalformedMessage(
            field, f"{field} is {type(value).__name__}, must be an object"
        )
    return value


def _name(fields: dict[str, Any], field: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str):
        raise MalformedMessage(field, f"{field} is {type(value).__name__}, no text")
    if not 0 < len(value) <= MAX_NAME_CHARACTERS or not value.isprintable():
        raise MalformedMessage(
            field,
            f"{field} has {len(value)} characters; 1 to {MAX_NAME_CHARACTERS} printable"
            " ones are allowed",
        )
    return value


def _labels(headers: dict[str, Any]) -> dict[str, str]:
    found = {}
    for label in KEPT_LABELS:
        value = headers.get(label)
        if isinstance(value, str) and len(value) <= MAX_LABEL_CHARACTERS:
            found[label] = value
    return found


def _read_arguments(
    envelope: dict[str, Any], headers: dict[str, Any], properties: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    content = (envelope.get("content-type"), envelope.get("content-encoding"))
    if content != ("application/json", "utf-8") or headers.get("compression"):
        raise MalformedMessage(
            "content_type", "body must be uncompressed application/json in utf-8"
        )
    match _read_json(_body(envelope, properties), "body"):
        case [list() as args, dict() as kwargs, dict() | None]:
            return args, kwargs
        case other:
            raise MalformedMessage(
                "body",
                f"body is a JSON {type(other).__name__}, must be a list of arguments,"
                " keyword arguments and options",
            )


def _body(envelope: dict[str, Any], properties: dict[str, Any]) -> bytes:
    body = envelope.get("body")
    if not isinstance(body, str):
        raise MalformedMessage("body", f"body is {type(body).__name__}, must be text")
    match properties.get("body_encoding"):
        case None | "utf-8":
            return body.encode(errors="replace")
        case "base64":
            try:
                return base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError) as exc:
                raise MalformedMessage("body", "body is not base64") from exc
        case _:
            raise MalformedMessage("body_encoding", "body_encoding must be base64")
