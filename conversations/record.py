"""How messages and limits are written by every store: JSON text and milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from pydantic_core import from_json

from conversations.conversation import Conversation, ConversationConfig
from conversations.json_value import dumps, written
from conversations.known_fields import read_known
from conversations.mending import ESCAPED_NUL, mended_json
from conversations.message import Message, Role, StoredMessage
from conversations.trusted import trusted, whole

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_ROLES = {role.value: role for role in Role}
_TEXT_FIELDS = frozenset({"role", "content", "tool_call_id", "tokens"})
"""What most messages have; others have parts that are values of their own."""


def to_ms(instant: datetime) -> int:
    """Whole milliseconds since the epoch."""
    return (instant - EPOCH) // MILLISECOND


@lru_cache(maxsize=256)  # messages of one turn share theirs
def from_ms(milliseconds: int) -> datetime:
    """The aware instant of `to_ms`."""
    return EPOCH + milliseconds * MILLISECOND


def write_message(message: Message) -> str:
    """JSON text of a message; what is at its default is left out.

    Holds no NUL: what a caller sends was refused for it, and what a run brings is
    mended here, on its way into every history.
    """
    text = written(message, without_defaults=True)
    return dumps(mended_json(json.loads(text))) if ESCAPED_NUL in text else text


def read_message(body: str) -> Message:
    """The message of what `write_message` wrote.

    A text is made directly; what holds more, or is no message of ours, is checked, and
    loses what a newer release has added.

    Raises:
        ValidationError: it is no message.
    """
    try:
        fields = from_json(body, cache_strings="keys")
    except ValueError:
        fields = None
    if isinstance(fields, dict) and fields.keys() <= _TEXT_FIELDS:
        role = _ROLES.get(str(fields.get("role")))
        if role is not None and _is_text(role, fields):
            fields["role"] = role
            return trusted(Message, **fields)
    if fields is None:
        return Message.model_validate_json(body)
    return read_known(Message, fields)


def _is_text(role: Role, fields: Mapping[str, object]) -> bool:
    """Whether a text's fields are what a message of that role may have."""
    content, tokens = fields.get("content", ""), fields.get("tokens")
    is_answer = role is Role.TOOL
    return (
        isinstance(content, str)
        and (is_answer or bool(content.strip()))
        and isinstance(fields.get("tool_call_id"), str) is is_answer
        and (tokens is None or (type(tokens) is int and tokens >= 0))
    )


def read_stored(seq: int, turn: str, at_ms: int, body: str) -> StoredMessage:
    """The message of a log entry; `turn` is empty when it was added by hand.

    What stands around the message was written by a script of ours.
    """
    return whole(
        StoredMessage,
        {
            "seq": seq,
            "turn": turn or None,
            "created_at": from_ms(at_ms),
            "message": read_message(body),
        },
    )


@lru_cache(maxsize=64)  # every turn brings those of its service
def write_limits(config: ConversationConfig) -> tuple[str, str, str]:
    """The config as JSON, then the two limits that scripts apply; '' for none."""
    ttl = config.ttl_seconds
    return (
        config.model_dump_json(),
        "" if config.max_messages is None else str(config.max_messages),
        "" if ttl is None else str(max(1, round(ttl * 1000))),
    )


class Numbers(NamedTuple):
    """What a head counts of its log."""

    last_seq: int
    dropped: int
    deleted: int


def numbers_of(
    conversation: Conversation,
    history: Sequence[StoredMessage],
    messages: Sequence[Message] = (),
) -> Numbers:
    """The numbers of a conversation that begins with a history, or with messages."""
    if not history:
        last = max(conversation.last_seq, len(messages))
        return Numbers(last, 0, last - len(messages))
    last = max(conversation.last_seq, history[-1].seq)
    dropped = history[0].seq - 1
    return Numbers(last, dropped, last - dropped - len(history))
