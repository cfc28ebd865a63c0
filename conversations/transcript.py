"""A conversation as JSON Lines text: written for export, checked on import.

The first line is the head, each further line one message in its place, or the numbers
of some that were deleted there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conversations.admission import describe_problem
from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import ConversationConflict, InvalidHistory
from conversations.history import OpenCalls, check_follows, follow
from conversations.json_value import Identifier, JsonObject
from conversations.message import MAX_SEQ, Role, StoredMessage
from conversations.store import ConversationStore

Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]
Line = TypeVar("Line", bound=BaseModel)
_DELETED = re.compile(r'\s*\{\s*"deleted"')
PAGE = 500
"""Messages read at a time; a few milliseconds of the store's time."""
FIRST_PAGE = 50
"""Before it is known how long they are."""
PAGE_CHARACTERS = 1024 * 1024
"""Of long messages a page holds about so much."""


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
    messages: int | None = Field(default=None, ge=0)
    """How many lines of messages follow; older exports do not say it."""
    last_seq: int | None = Field(default=None, ge=0, le=MAX_SEQ)
    """The last number, whose message may have been deleted."""


class DeletedLine(BaseModel):
    """A line in the place of messages that were deleted one by one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    deleted: tuple[Seq, Seq]
    """The first and the last of their numbers."""


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
    last, end, left = 0, conversation.last_seq, conversation.message_count
    limit = FIRST_PAGE
    while left > 0:
        page = await store.read(
            tenant, conversation_id, limit=limit, after=last, before=end + 1
        )
        size = 1
        for stored in page:
            if last and stored.seq > last + 1:
                yield deleted_line(last + 1, stored.seq - 1)
            line = message_line(stored)
            size += len(line)
            yield line
            last = stored.seq
        limit = max(1, min(PAGE, PAGE_CHARACTERS * len(page) // size))
        left -= len(page)
        if not page:
            raise ConversationConflict(
                f"messages of conversation {conversation_id!r} were dropped or deleted"
                " while it was exported; export it again",
                conversation_id=conversation_id,
            )
    if last < end:
        yield deleted_line(last + 1, end)


def head_line(conversation: Conversation) -> str:
    """Return the first line, ended by a newline."""
    head = TranscriptHead(
        id=conversation.id,
        config=conversation.config,
        metadata=conversation.metadata,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
        messages=conversation.message_count,
        last_seq=conversation.last_seq,
    )
    return f"{head.model_dump_json()}\n"


def message_line(stored: StoredMessage) -> str:
    """Return a message's line, ended by a newline."""
    return f"{stored.model_dump_json(exclude_defaults=True)}\n"


def deleted_line(first: int, last: int) -> str:
    """Return the line of deleted messages, ended by a newline."""
    return f"{DeletedLine(deleted=(first, last)).model_dump_json()}\n"


class TranscriptReader:
    """Reads a transcript line by line; takes only what a store could hold."""

    def __init__(self, number: int, line: str) -> None:
        """Read the first line; an empty one is none.

        Raises:
            InvalidHistory: it is no head.
        """
        if line == "":
            raise InvalidHistory(
                f"line {number} is missing; give the text of an export"
            )
        self.head = _read_line(TranscriptHead, line, f"line {number}")
        self.last_seq = 0
        """The last number, whose message may have been deleted."""
        self._count = 0
        self._begun = False
        self._follows_deleted = False
        self._turn: str | None = None
        self._turns: set[str] = set()
        self._clients: set[str] = set()
        self._open: OpenCalls = frozenset()

    def take(self, line: str, number: int) -> StoredMessage | None:
        """Read a further line; None when it only tells what was deleted.

        Raises:
            InvalidHistory: names the line and why it cannot be taken: it cannot be
                read, numbers have a gap, a turn is split, a client id repeats, or the
                message does not fit behind those before it.
        """
        field = f"line {number}"
        if isinstance(line, str) and _DELETED.match(line):
            first, last = _read_line(DeletedLine, line, field).deleted
            self._check_seq(first, field)
            if last < first:
                raise InvalidHistory(
                    f"{field}.deleted ends at {last} before it begins at {first};"
                    " name the first number, then the last"
                )
            self.last_seq = last
            self._follows_deleted = True
            return None
        stored = _read_line(StoredMessage, line, field)
        _check_instant(stored.created_at, field)
        self._pass_over_calls(stored)
        self._check_seq(stored.seq, field)
        self._check_turn(stored, field)
        self._check_client(stored.message.client_id, field)
        check_follows(self._open, stored.message, field=field)
        self._open = follow(self._open, stored.message)
        self.last_seq = stored.seq
        self._count += 1
        return stored

    def check_whole(self) -> None:
        """Check after the last line that no line is missing, where the head tells it.

        Raises:
            InvalidHistory: the transcript was cut off.
        """
        told, last = self.head.messages, self.head.last_seq
        if told is not None and told != self._count:
            raise InvalidHistory(
                f"the transcript holds {self._count} of {told} messages: it was cut"
                " off or changed; export it again, or correct `messages` in its head"
            )
        if last is not None and last != self.last_seq:
            raise InvalidHistory(
                f"the transcript ends at seq {self.last_seq} of {last}: it was cut"
                " off or changed; export it again, or correct `last_seq` in its head"
            )

    def _check_seq(self, seq: int, field: str) -> None:
        if self._begun and seq != self.last_seq + 1:
            raise InvalidHistory(
                f"{field}: seq {seq} follows seq {self.last_seq};"
                " sequence numbers must rise by one without a gap"
            )
        self._begun = True

    def _pass_over_calls(self, stored: StoredMessage) -> None:
        """Forget open calls that a store could hold before the message.

        It lets a turn pass over them, and that turn may have been deleted since.
        """
        begins_turn = stored.turn is not None and stored.turn != self._turn
        passes = begins_turn or self._follows_deleted
        if passes and stored.message.role is not Role.TOOL:
            self._open = frozenset()
        self._follows_deleted = False

    def _check_turn(self, stored: StoredMessage, field: str) -> None:
        turn, begins = stored.turn, stored.turn != self._turn
        if turn is not None and begins:
            if turn in self._turns:
                raise InvalidHistory(
                    f"{field}: its turn began earlier and was interrupted;"
                    " messages of one turn must stand together"
                )
            self._turns.add(turn)
        self._turn = turn

    def _check_client(self, client_id: str | None, field: str) -> None:
        if client_id is None:
            return
        if client_id in self._clients:
            raise InvalidHistory(
                f"{field}: its client_id repeats an earlier one;"
                " client ids are unique within a conversation"
            )
        self._clients.add(client_id)


def lines_of(transcript: object) -> list[str]:
    """Return the lines of a text.

    Raises:
        InvalidHistory: it is none.
    """
    if not isinstance(transcript, str):
        kind = type(transcript).__name__
        raise InvalidHistory(f"transcript must be text (got {kind}); decode it")
    return transcript.split("\n")


def numbered_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Return the lines that are not blank, each with its number from 1.

    Raises:
        InvalidHistory: these are no lines.
    """
    if not isinstance(lines, Iterable):
        kind = type(lines).__name__
        raise InvalidHistory(f"lines must be texts, one a line (got {kind})")
    numbered = enumerate(lines, start=1)
    return ((n, each) for n, each in numbered if not _is_blank(each))


def _is_blank(line: object) -> bool:
    return isinstance(line, str) and not line.strip()


def _check_instant(instant: datetime, field: str) -> None:
    """Check that an instant is one in UTC too, in which stores keep it."""
    try:
        instant.astimezone(UTC)
    except OverflowError:
        raise InvalidHistory(
            f"{field}.created_at: lies outside the years 1 to 9999 in UTC; correct it"
        ) from None


def _read_line(model: type[Line], line: str, field: str) -> Line:
    if not isinstance(line, str):
        kind = type(line).__name__
        raise InvalidHistory(f"{field} must be text (got {kind}); decode it")
    try:
        return model.model_validate_json(line.rstrip("\n"))
    except ValidationError as exc:
        raise InvalidHistory(describe_problem(exc, field)) from None
