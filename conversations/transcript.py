"""A conversation as JSON Lines text: written for export, checked on import.

The first line is the head, each further line one message in its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from conversations.admission import describe_problem
from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import ConversationConflict, InvalidHistory
from conversations.history import check_history
from conversations.json_value import Identifier, JsonObject
from conversations.message import Message, Role, StoredMessage
from conversations.store import ConversationStore

Line = TypeVar("Line", bound=BaseModel)
PAGE = 500
"""Messages read at a time; a few milliseconds of the store's time."""


class TranscriptHead(BaseModel):
    """The first line of a transcript."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    format: Literal["celeriac.conversation/1"] = "celeriac.conversation/1"
    """What the lines are, and in which version."""
    id: Identifier
    """The conversation's id; an import may choose another."""
    config: ConversationConfig
    """Its limits."""
    metadata: JsonObject
    """The owner's facts about it."""
    created_at: datetime | None = None
    """When the original was created."""
    updated_at: datetime | None = None
    """When the original last changed."""


async def transcript_lines(
    store: ConversationStore, tenant: str, conversation_id: str
) -> AsyncIterator[str]:
    """Yield the lines, each ended by a newline; reads one page at a time.

    Raises:
        ConversationNotFound: none of this tenant has the id.
        ConversationConflict: messages that were still to come have been dropped.
    """
    conversation = await store.get(tenant, conversation_id)
    yield head_line(conversation)
    last = conversation.dropped_messages
    while last < conversation.last_seq:
        page = await store.read(
            tenant,
            conversation_id,
            limit=PAGE,
            after=last,
            before=conversation.last_seq + 1,
        )
        if not page or page[0].seq != last + 1:
            raise ConversationConflict(
                f"messages of conversation {conversation_id!r} were dropped while it"
                " was exported; export it again",
                conversation_id=conversation_id,
            )
        for stored in page:
            yield message_line(stored)
        last = page[-1].seq


def head_line(conversation: Conversation) -> str:
    """Return the first line, ended by a newline."""
    head = TranscriptHead(
        id=conversation.id,
        config=conversation.config,
        metadata=conversation.metadata,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
    )
    return f"{head.model_dump_json()}\n"


def message_line(stored: StoredMessage) -> str:
    """Return a message's line, ended by a newline."""
    return f"{stored.model_dump_json(exclude_defaults=True)}\n"


def read_transcript(
    lines: Iterable[str],
) -> tuple[TranscriptHead, tuple[StoredMessage, ...]]:
    """Return head and messages of a transcript that is whole and valid.

    Raises:
        InvalidHistory: names the first line that cannot be taken, and why.
    """
    numbered = enumerate(lines, start=1)
    head = _read_line(TranscriptHead, next(numbered, (1, ""))[1], 1)
    history = [_read_line(StoredMessage, line, number) for number, line in numbered]
    check_stored_history(history)
    return head, tuple(history)


def check_stored_history(history: Sequence[StoredMessage]) -> None:
    """Check that a store may take over the history as it stands.

    Raises:
        InvalidHistory: numbers have a gap, a turn is split, a client id repeats, or
            the messages do not fit together.
    """
    turns: set[str] = set()
    clients: set[str] = set()
    previous: StoredMessage | None = None
    for stored in history:
        _check_place(stored, previous, turns)
        client_id = stored.message.client_id
        if client_id is not None and client_id in clients:
            raise InvalidHistory(
                f"client_id of message {stored.seq} repeats an earlier one;"
                " client ids are unique within a conversation"
            )
        turns.add(stored.turn or "")
        clients.add(client_id or "")
        previous = stored
    for part in _histories(history):
        check_history(part, may_end_open=True)


def _histories(history: Sequence[StoredMessage]) -> Iterator[list[Message]]:
    """Split where a store lets a new turn pass over calls that stand open."""
    part: list[Message] = []
    turn: str | None = None
    for stored in history:
        begins = stored.turn is not None and stored.turn != turn
        if begins and stored.message.role is not Role.TOOL:
            yield part
            part = []
        part.append(stored.message)
        turn = stored.turn
    yield part


def _check_place(
    stored: StoredMessage, previous: StoredMessage | None, turns: set[str]
) -> None:
    if previous is not None and stored.seq != previous.seq + 1:
        raise InvalidHistory(
            f"seq {stored.seq} follows seq {previous.seq};"
            " sequence numbers must rise by one without a gap"
        )
    continues = previous is not None and stored.turn == previous.turn
    if stored.turn is not None and stored.turn in turns and not continues:
        raise InvalidHistory(
            f"turn of message {stored.seq} began earlier and was interrupted;"
            " messages of one turn must stand together"
        )


def _read_line(model: type[Line], line: str, number: int) -> Line:
    try:
        return model.model_validate_json(line.rstrip("\n"))
    except ValidationError as exc:
        raise InvalidHistory(describe_problem(exc, f"line {number}")) from None
