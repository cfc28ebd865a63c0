"""What the scripts of the Redis store are given and what they answer, as values.

Knows no Redis client.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from secrets import token_hex
from typing import Any

from pydantic import JsonValue, TypeAdapter

from conversations.append_script import kind_of
from conversations.conversation import Conversation, ConversationConfig
from conversations.history import open_after, starts_unit
from conversations.json_value import dumps, loads
from conversations.known_fields import read_known
from conversations.message import Message, StoredMessage
from conversations.record import (
    from_ms,
    numbers_of,
    read_stored,
    to_ms,
    write_limits,
    write_message,
)
from conversations.store import WindowRead
from conversations.trusted import trusted

PIECE = 500
"""Messages of a history that one script writes: some milliseconds of Redis' time."""
PIECE_CHARACTERS = 1024 * 1024
"""Of such messages; a larger one is a piece of its own."""
_METADATA = TypeAdapter(dict[str, JsonValue])


def creation_arguments(
    conversation: Conversation,
    history: Sequence[StoredMessage],
    messages: Sequence[Message],
) -> list[str | int]:
    """What `create.lua` is given before the messages."""
    config, max_messages, ttl_ms = write_limits(conversation.config)
    open_calls = open_after([*(stored.message for stored in history), *messages])
    numbers = numbers_of(conversation, history, messages)
    return [
        token_hex(8),
        config,
        dumps(conversation.metadata),
        max_messages,
        ttl_ms,
        *numbers,
        "1" if conversation.hidden else "",
        len(open_calls),
        *sorted(open_calls),
    ]


def message_arguments(messages: Sequence[Message]) -> list[str | int]:
    """What `create.lua` is given of messages that are the first ones."""
    arguments: list[str | int] = []
    for seq, message in enumerate(messages, start=1):
        starts = starts_unit(message, turn=None, continues_turn=False)
        arguments += _entry(seq, "", "", starts, message)
    return arguments


def history_pieces(history: Sequence[StoredMessage]) -> Iterator[list[str | int]]:
    """Yield what `create.lua` and `load.lua` are given of a history, in pieces."""
    piece: list[str | int] = []
    size, turn = 0, None
    for stored in history:
        message, continues = stored.message, stored.turn == turn
        turn = stored.turn
        starts = starts_unit(message, turn=turn, continues_turn=continues)
        at_ms = str(to_ms(stored.created_at))
        entry = _entry(stored.seq, turn or "", at_ms, starts, message)
        length = len(str(entry[-1]))
        if len(piece) >= PIECE * len(entry) or (
            piece and size + length > PIECE_CHARACTERS
        ):
            yield piece
            piece, size = [], 0
        piece += entry
        size += length
    if piece:
        yield piece


def _entry(
    seq: int, turn: str, at_ms: str, starts: bool, message: Message
) -> list[str | int]:
    return [
        seq,
        turn,
        message.client_id or "",
        at_ms,
        int(starts),
        str(message.role),
        kind_of(message),
        write_message(message),
    ]


def read_head(tenant: str, conversation_id: str, flat: Sequence[Any]) -> Conversation:
    """The head, from the fields and values of its hash."""
    parts = [text_of(part) for part in flat]
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    return trusted(
        Conversation,
        id=conversation_id,
        tenant=tenant,
        config=_config(fields["config"]),
        metadata=_METADATA.validate_json(fields["metadata"]),
        hidden=bool(fields.get("hidden")),
        created_at=from_ms(int(fields["created_ms"])),
        updated_at=from_ms(int(fields["updated_ms"])),
        last_seq=int(fields["last_seq"]),
        dropped_messages=int(fields["dropped"]),
        deleted_messages=int(fields.get("deleted", 0)),
    )


@lru_cache(maxsize=64)  # most conversations of a service share theirs
def _config(text: str) -> ConversationConfig:
    return read_known(ConversationConfig, loads(text))


def read_messages(rows: Sequence[Sequence[Any]]) -> tuple[StoredMessage, ...]:
    """The messages of rows `{seq, turn, at, message JSON}`."""
    return tuple(
        read_stored(int(seq), text_of(turn), int(at), text_of(body))
        for seq, turn, at, body in rows
    )


def read_window(tenant: str, conversation_id: str, answer: Any) -> WindowRead | None:
    """What `conversation_window` answers; None where there is no conversation."""
    if not answer:
        return None
    head, rows = answer
    return WindowRead(read_head(tenant, conversation_id, head), read_messages(rows))


def text_of(value: bytes | str) -> str:
    """Text of a reply, whether or not the client decodes replies."""
    return value.decode("utf-8") if isinstance(value, bytes) else value
