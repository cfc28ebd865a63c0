"""What a scripted model says: the values that scripts are written in.

Shared by the provider in the same process and the endpoint over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from conversations.json_value import JsonObject
from conversations.message import ToolCall

_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ScriptedCall(BaseModel):
    """A tool call that a scripted model makes."""

    model_config = _STRICT

    name: str
    """The tool."""
    arguments: JsonObject | str = Field(default_factory=dict)
    """As data, or as the text that the model wrote, valid or not."""
    id: str = Field(default_factory=lambda: f"call_{uuid4().hex}")
    """The call's id; minted unless given."""


class Reply(BaseModel):
    """One answer of a scripted model."""

    model_config = _STRICT

    text: str = ""
    """What it says."""
    reasoning: str = ""
    """What it thinks."""
    tool_calls: tuple[ScriptedCall, ...] = ()
    """The tools that it calls."""
    finish_reason: str | None = None
    """Why it ends; None: `tool_calls` with calls, else `stop`."""

    def ending(self) -> str:
        """Return why it ends."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


Scripted = Reply | str | ToolCall | Sequence[ToolCall] | Mapping[str, object]
"""What may stand for a reply: a text, tool calls, or its fields."""


def default_text(model: str, base_url: str) -> str:
    """Return the reply of a double without a script: it says what it is."""
    return (
        f"This is a scripted reply for model {model} at {base_url};"
        " no model was called."
    )


def reply_fields(scripted: Scripted) -> dict[str, object]:
    """Return the fields of the reply that was written in short.

    Raises:
        TypeError: it is nothing that may stand for a reply.
    """
    if isinstance(scripted, str):
        return {"text": scripted}
    if isinstance(scripted, Reply):
        return scripted.model_dump()
    if isinstance(scripted, Mapping):
        return dict(scripted)
    calls = [scripted] if isinstance(scripted, ToolCall) else scripted
    if not isinstance(calls, Sequence):
        raise TypeError(f"it is of type {type(scripted).__name__}")
    if not all(isinstance(call, ToolCall) for call in calls):
        raise TypeError("a list of others than calls; give each reply by itself")
    return {"tool_calls": [call.model_dump() for call in calls]}
