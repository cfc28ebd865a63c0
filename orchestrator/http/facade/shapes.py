"""OpenAI's items as they are answered: one function for each kind. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from conversations.image import Image

Shape = dict[str, Any]


def output_text(text: str) -> Shape:
    """A piece of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(
    item_id: str,
    text: str | None,
    *,
    role: str = "assistant",
    status: str = "completed",
    images: Iterable[Image] = (),
    phase: str | None = None,
) -> Shape:
    """A message; without a text its content is yet to come."""
    content: list[Shape] = []
    if text is not None:
        content = [
            output_text(text)
            if role == "assistant"
            else {"type": "input_text", "text": text}
        ]
    content += [
        {"type": "input_image", "detail": image.detail, "image_url": image.url}
        for image in images
    ]
    return {
        "type": "message",
        "id": item_id,
        "status": status,
        "role": role,
        "content": content,
        **({"phase": phase} if phase else {}),
    }


def function_call_item(
    item_id: str, call_id: str, name: str, arguments: str, *, status: str = "completed"
) -> Shape:
    """A call that the client is to make."""
    return {
        "type": "function_call",
        "id": item_id,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def function_output_item(item_id: str, call_id: str, output: str) -> Shape:
    """What a call of the client's gave."""
    return {
        "type": "function_call_output",
        "id": item_id,
        "call_id": call_id,
        "output": output,
        "status": "completed",
    }


COMMENTARY: Final = "commentary"
"""The phase of a message that is no answer, as OpenAI names it."""
SERVER_LABEL = "celeriac"
TOOL_ERROR = "mcp_tool_execution_error"


def mcp_call_item(
    item_id: str,
    name: str,
    arguments: str,
    *,
    output: str | None = None,
    error: str | None = None,
    status: str = "completed",
) -> Shape:
    """A call of a tool that a worker ran; what went wrong with it is told as a text."""
    told = [{"type": "text", "text": error}]
    return {
        "type": "mcp_call",
        "id": item_id,
        "server_label": SERVER_LABEL,
        "name": name,
        "arguments": arguments,
        "output": output,
        "error": {"type": TOOL_ERROR, "content": told} if error else None,
        "status": status,
        "approval_request_id": None,
    }
