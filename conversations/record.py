"""How messages and limits are written by every store: JSON text and milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from conversations.conversation import Conversation, ConversationConfig
from conversations.json_value import dumps
from conversations.mending import ESCAPED_NUL, mended_json
from conversations.message import Message, StoredMessage
from conversations.shared_names import sharing_names

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(instant: datetime) -> int:
    """Whole milliseconds since the epoch."""
    return (instant - EPOCH) // MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """The aware instant of `to_ms`."""
    return EPOCH + milliseconds * MILLISECOND


def write_message(message: Message) -> str:
    """JSON text of a message; what is at its default is left out.

    Holds no NUL: what a caller sends was refused for it, and what a run brings is
    mended here, on its way into every history.
    """
    text = message.model_dump_json(exclude_defaults=True)
    return dumps(mended_json(json.loads(text))) if ESCAPED_NUL in text else text


def read_stored(seq: int, turn: str, at_ms: int, body: str) -> StoredMessage:
    """The message of a log entry; `turn` is empty when it was added by hand.

    What stands around the message was written by a script of ours.
    """
    return StoredMessage.model_construct(
        seq=seq,
        turn=turn or None,
        created_at=from_ms(at_ms),
        message=sharing_names(Message.model_validate_json(body)),
    )


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
