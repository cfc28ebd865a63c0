"""A prompt in the order that strict chat templates demand: pure functions.

They take one system message, at the beginning, or none; then users and assistants in
turns, where calls and their results do not count; and call ids of nine letters and
digits. What is shown to such a model changes its shape only, no word is left out.
"""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Sequence
from hashlib import sha256

from conversations.message import Message, Role

EARLIER = "[Earlier messages are left out.]"
"""The user's turn before an answer with which the window begins."""
RECEIVED = "[I have the results.]"
"""The assistant's turn between results and a user's message right after them."""
ID_CHARACTERS = 9


def in_strict_order(
    messages: Sequence[Message], *, system_role: bool
) -> tuple[Message, ...]:
    """Return the prompt for a strict template.

    Without the system role the first question begins with the rules.
    """
    rules = "\n\n".join(m.content for m in messages if m.role is Role.SYSTEM)
    turns: list[Message] = []
    for message in messages:
        if message.role is not Role.SYSTEM:
            _add(turns, _with_short_ids(message))
    if not rules:
        return tuple(turns)
    if system_role or not turns:
        return (Message(role=Role.SYSTEM, content=rules), *turns)
    first = turns[0]
    opened = first.model_copy(update={"content": _joined(rules, first.content)})
    return (opened, *turns[1:])


def _add(turns: list[Message], message: Message) -> None:
    last = turns[-1].role if turns else None
    if last is message.role and last is not Role.TOOL:
        turns[-1] = _as_one(turns[-1], message)
        return
    if last is None and message.role is not Role.USER:
        turns.append(Message(role=Role.USER, content=EARLIER))
    elif last is Role.TOOL and message.role is Role.USER:
        turns.append(Message(role=Role.ASSISTANT, content=RECEIVED))
    turns.append(message)


def _as_one(first: Message, second: Message) -> Message:
    thought = second if second.reasoning else first
    return second.model_copy(
        update={
            "content": _joined(first.content, second.content),
            "images": (*first.images, *second.images),
            "tool_calls": (*first.tool_calls, *second.tool_calls),
            "reasoning": thought.reasoning,
            "reasoning_field": thought.reasoning_field,
        }
    )


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


def _with_short_ids(message: Message) -> Message:
    if message.tool_call_id is not None:
        short = short_id(message.tool_call_id)
        return message.model_copy(update={"tool_call_id": short})
    if not message.tool_calls:
        return message
    calls = [
        call.model_copy(update={"id": short_id(call.id)}) for call in message.tool_calls
    ]
    return message.model_copy(update={"tool_calls": tuple(calls)})


def short_id(call_id: str) -> str:
    """Return nine letters and digits that stand for a call's id."""
    if len(call_id) == ID_CHARACTERS and call_id.isascii() and call_id.isalnum():
        return call_id
    return b32encode(sha256(call_id.encode()).digest())[:ID_CHARACTERS].decode()
