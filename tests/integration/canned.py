"""Canned answers of real servers, as the bytes that the double sends unchanged."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.llm_serving import SSE
from workers.llm.double_script import HttpReply

JSON = {"content-type": "application/json"}


def whole(
    message: dict[str, Any] | None = None, *, finish: str | None = "stop", **extra: Any
) -> HttpReply:
    """One document."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"object": "chat.completion", "model": "m", "choices": [choice], **extra}
    return HttpReply(body=json.dumps(body), headers=JSON)


def events(*payloads: object, done: bool = True) -> HttpReply:
    """A stream of these events, `[DONE]` last; a text stands as it is."""
    lines = [p if isinstance(p, str) else f"data: {json.dumps(p)}" for p in payloads]
    lines += ["data: [DONE]"] if done else []
    return HttpReply(body="".join(f"{line}\n\n" for line in lines), headers=SSE)


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def call(
    arguments: object = None, *, name: object = "look", **fields: Any
) -> dict[str, Any]:
    """A tool call or a fragment of one; `name=None` leaves the name out."""
    function: dict[str, Any] = {} if arguments is None else {"arguments": arguments}
    if name is not None:
        function["name"] = name
    return {"type": "function", **fields, "function": function}


def refusal(status: int, error: object, **headers: str) -> HttpReply:
    """An error answer with this body; a text stands as it is."""
    body = error if isinstance(error, str) else json.dumps(error)
    return HttpReply(status=status, body=body, headers={**JSON, **headers})
