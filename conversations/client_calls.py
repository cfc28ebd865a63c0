"""Which tool calls of a history the client makes itself: a fact about the message."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from conversations.message import Message

CLIENT_FACT: Final = "client_calls"
"""In an assistant message: ids of the calls; in a tool message: true."""


def marked_as_client(message: Message, calls: Collection[str]) -> Message:
    """Return the assistant message with the calls that the client is to make noted."""
    if not calls:
        return message
    facts = {**message.metadata, CLIENT_FACT: sorted(calls)}
    return message.model_copy(update={"metadata": facts})


def client_calls_of(message: Message) -> frozenset[str]:
    """Return the ids of the calls that the client is to make."""
    noted = message.metadata.get(CLIENT_FACT)
    if not isinstance(noted, list):
        return frozenset()
    return frozenset(call_id for call_id in noted if isinstance(call_id, str))


def is_client_result(message: Message) -> bool:
    """Whether a tool message answers a call that the client made."""
    return message.metadata.get(CLIENT_FACT) is True
