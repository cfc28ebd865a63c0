"""A completion request as the JSON of the Chat Completions API.

Owns the outgoing quirks: what a server is known to want is a `Dialect`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import JsonValue

from conversations.json_value import JsonObject
from conversations.message import Message, Role, ToolCall
from workers.llm.error_mapping import Failure
from workers.llm.message_order import in_strict_order
from workers.llm.plain_calls import with_plain_calls
from workers.llm.provider import CompletionRequest, ToolSpec

_WEAKER_FORMAT = {"json_schema": "json_object", "json_object": "off"}
"""What to ask for when a format is refused; the prompt names the schema anyway."""
PICTURE_LEFT_OUT = "[A picture was shown here; this model takes none.]"
_STRICTER_ORDER = {"any": "strict", "strict": "no_system"}
"""What to do when the order of a prompt's messages is refused."""
_OPTIONAL = frozenset(
    {
        "temperature",
        "top_p",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "stop",
        "tool_choice",
        "stream_options",
    }
)
"""Fields that an answer can be had without; at `stop` it is cut here all the same."""


_written = json.JSONEncoder(ensure_ascii=False).encode
"""With blanks, as models write arguments themselves."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one model of one endpoint wants to be asked; learned from its refusals."""

    output_limit_field: str = "max_tokens"
    replay_reasoning: bool = True
    response_format: str = "json_schema"
    message_order: str = "any"
    """`strict`: one system message, then users and assistants in turns; `no_system`:
    the same, with the rules in the first question."""
    older_pictures: bool = True
    """False: pictures stay with the newest question alone, where they are refused."""
    plain_calls: bool = False
    """Names and ids of calls are of letters, digits, `_` and `-`, and not long."""
    left_out: frozenset[str] = frozenset()
    """Optional fields that it does not know or take."""
    fixed: frozenset[str] = frozenset()
    """Names of what was set by hand and is not learned."""

    def adapted_to(self, failure: Failure) -> Dialect | None:
        """Return the dialect to ask again in; None when asking again is no use."""
        learned = self._of_messages(failure) or self._of_fields(failure)
        return self._with(**learned) if learned else None

    def _of_messages(self, failure: Failure) -> dict[str, Any]:
        if self.replay_reasoning and failure.rejects_reasoning:
            return {"replay_reasoning": False}
        if self.message_order != "no_system" and failure.rejects_order:
            return {"message_order": _STRICTER_ORDER[self.message_order]}
        if self.older_pictures and failure.rejects_pictures:
            return {"older_pictures": False}
        if not self.plain_calls and failure.rejects_calls:
            return {"plain_calls": True}
        return {}

    def _of_fields(self, failure: Failure) -> dict[str, Any]:
        if self.output_limit_field == "max_tokens" and failure.rejects_max_tokens:
            return {"output_limit_field": "max_completion_tokens"}
        if self.response_format != "off" and failure.rejects_response_format:
            return {"response_format": _WEAKER_FORMAT[self.response_format]}
        rejected = failure.rejected_field(_OPTIONAL - self.left_out)
        return {} if rejected is None else {"left_out": self.left_out | {rejected}}

    def _with(self, **learned: Any) -> Dialect | None:
        return None if self.fixed & learned.keys() else replace(self, **learned)


def changes(old: Dialect, new: Dialect) -> dict[str, str]:
    """Return what differs, for a log."""
    return {
        each.name: str(getattr(new, each.name))
        for each in fields(Dialect)
        if getattr(old, each.name) != getattr(new, each.name)
    }


def chat_body(
    request: CompletionRequest, *, model: str, dialect: Dialect, stream: bool
) -> JsonObject:
    """Return the body of `POST /chat/completions`."""
    body: JsonObject = {
        "model": model,
        "messages": [
            _message(message, dialect) for message in _shaped(request, dialect)
        ],
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.forced_tool is not None:
            body["tool_choice"] = _forced(request.forced_tool)
        elif request.tool_choice != "auto":
            body["tool_choice"] = request.tool_choice
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    optional: tuple[tuple[str, JsonValue], ...] = (
        ("reasoning_effort", request.reasoning_effort),
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("seed", request.seed),
        ("frequency_penalty", request.frequency_penalty),
        ("presence_penalty", request.presence_penalty),
        ("stop", [*request.stop] or None),
        (dialect.output_limit_field, request.max_output_tokens),
    )
    body.update(each for each in optional if each[1] is not None)
    if request.output_schema is not None and dialect.response_format != "off":
        body["response_format"] = _response_format(request.output_schema, dialect)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    for name in dialect.left_out:
        body.pop(name, None)
    return body


def _shaped(request: CompletionRequest, dialect: Dialect) -> Sequence[Message]:
    messages = request.messages
    if not dialect.older_pictures:
        messages = _without_older_pictures(messages)
    if dialect.plain_calls:
        offered = {tool.name for tool in request.tools}
        messages = with_plain_calls(messages, offered=offered)
    if dialect.message_order != "any":
        has_role = dialect.message_order == "strict"
        messages = in_strict_order(messages, system_role=has_role)
    return messages


def _without_older_pictures(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Leave out what was shown to a model before one that takes no pictures."""
    places = [n for n, message in enumerate(messages) if message.role is Role.USER]
    return tuple(
        message.model_copy(
            update={"images": (), "content": f"{message.content}\n{PICTURE_LEFT_OUT}"}
        )
        if message.images and place != places[-1]
        else message
        for place, message in enumerate(messages)
    )


def _forced(name: str) -> JsonObject:
    return {"type": "function", "function": {"name": name}}


def _response_format(schema: JsonObject, dialect: Dialect) -> JsonObject:
    if dialect.response_format == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }


def _message(message: Message, dialect: Dialect) -> JsonObject:
    # Never null content: Ollama refuses it in a message without tool calls.
    content: JsonValue = message.content
    if message.images:
        # Some servers refuse an empty text among the parts.
        content = _pictures(message)
        if message.content:
            content.insert(0, {"type": "text", "text": message.content})
    body: JsonObject = {"role": f"{message.role}", "content": content}
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.role is Role.TOOL:
        body["tool_call_id"] = message.tool_call_id
    if message.reasoning and message.reasoning_field and dialect.replay_reasoning:
        body[message.reasoning_field] = message.reasoning
    return body


def _pictures(message: Message) -> list[JsonValue]:
    return [
        {"type": "image_url", "image_url": image.model_dump(mode="json")}
        for image in message.images
    ]


def _tool_call(call: ToolCall) -> JsonObject:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _written(call.arguments)},
    }


def _tool(tool: ToolSpec) -> JsonObject:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.schema_ or {"type": "object", "properties": {}},
        },
    }
