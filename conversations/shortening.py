"""What is kept of a message of a run that is larger than a history takes.

Pure functions. The task's own result stays whole; what people send is refused instead.
"""

from __future__ import annotations

from conversations.client_calls import CLIENT_FACT
from conversations.json_value import BYTES_OF_A_CHARACTER, size_of
from conversations.message import Message, ToolCall
from conversations.record import write_message

_NOTE_BYTES = 128
"""More than the note of what is missing takes."""


def shortened(message: Message, *, max_bytes: int) -> Message:
    """Return the message, or what fits of it: the beginning of its text, and a note.

    Before text is cut, reasoning, pictures, metadata and large arguments are left out.
    """
    if _is_small(message, max_bytes) or _size(message) <= max_bytes:
        return message
    facts = {k: v for k, v in message.metadata.items() if k == CLIENT_FACT}
    share = max_bytes // (2 * max(1, len(message.tool_calls)))
    calls = tuple(_small(call, share) for call in message.tool_calls)
    left_out = {"reasoning": None, "images": (), "metadata": facts, "tool_calls": calls}
    bare = message.model_copy(update={**left_out, "tokens": None})
    if _size(bare) <= max_bytes:
        return bare
    room = max_bytes - _size(bare.model_copy(update={"content": ""})) - _NOTE_BYTES
    return bare.model_copy(update={"content": _beginning(message.content, room)})


def _is_small(message: Message, max_bytes: int) -> bool:
    """Whether a text or calls cannot come near the limit, however they are written."""
    characters = len(message.content) + len(message.tool_call_id or "")
    most = _NOTE_BYTES
    for call in message.tool_calls:
        characters += len(call.id) + len(call.name)
        most += _NOTE_BYTES + size_of(call.arguments)
    most += BYTES_OF_A_CHARACTER * characters
    holds_more = message.images or message.reasoning or message.metadata
    return not holds_more and 2 * most <= max_bytes


def _size(message: Message) -> int:
    return len(write_message(message).encode())


def _small(call: ToolCall, most: int) -> ToolCall:
    size = size_of(call.arguments)
    if size <= most:
        return call
    return call.model_copy(update={"arguments": {"left_out": f"{size} bytes"}})


def _beginning(content: str, room: int) -> str:
    kept = content[: max(0, room)]
    while kept and size_of(kept) > room:
        kept = kept[: len(kept) * max(0, room) // size_of(kept)]
    missing = len(content) - len(kept)
    return f"{kept}\n[… {missing} of {len(content)} characters left out of the history]"
