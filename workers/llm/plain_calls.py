"""Names and ids of a history's calls as strict vendors take them: pure functions.

Models make up names such as `functions.look`, other servers give ids such as
`functions.look:0` or of some hundred characters. What is stored is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from conversations.message import Message, ToolCall
from workers.llm.message_order import short_id

_LONGEST_NAME = 64
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""Forty characters are OpenAI's limit."""


def with_plain_calls(
    messages: Sequence[Message], *, offered: Collection[str]
) -> tuple[Message, ...]:
    """Return the prompt with plain names and ids; those of tools `offered` stay."""
    return tuple(_plain(message, offered) for message in messages)


def _plain(message: Message, offered: Collection[str]) -> Message:
    if message.tool_call_id is not None:
        return message.model_copy(update={"tool_call_id": _id(message.tool_call_id)})
    if not message.tool_calls:
        return message
    calls = tuple(_plain_call(call, offered) for call in message.tool_calls)
    return message.model_copy(update={"tool_calls": calls})


def _plain_call(call: ToolCall, offered: Collection[str]) -> ToolCall:
    name = call.name
    if name not in offered:
        name = _ODD.sub("_", name)[:_LONGEST_NAME]
    return call.model_copy(update={"id": _id(call.id), "name": name})


def _id(call_id: str) -> str:
    return call_id if _PLAIN_ID.fullmatch(call_id) else short_id(call_id)
