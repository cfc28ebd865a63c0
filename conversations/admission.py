"""What the service takes in: shapes and sizes checked before any I/O.

Foreign validation errors end here. An error's text tells a value's type or size, never
the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue, ValidationError

from conversations.conversation import (
    Conversation,
    ConversationConfig,
    new_hidden_id,
)
from conversations.errors import InvalidHistory, InvalidMessage, InvalidRequest
from conversations.json_value import (
    NotStorable,
    check_identifier,
    check_json,
    check_no_nul,
    size_of,
)
from conversations.mending import ESCAPED_NUL
from conversations.message import MAX_SEQ, Message, Role, StoredMessage
from conversations.whole_number import whole_number

MAX_BATCH = 1000
"""Messages of one append: some milliseconds in which Redis does nothing else."""
MAX_PAGE = 1000
"""Bounds one answer to what a client can hold and Redis reads without a pause."""


def admit_message(
    message: Message | Mapping[str, object], *, field: str, max_bytes: int
) -> Message:
    """Return the message when it has a valid shape, text and size.

    Raises:
        InvalidMessage: it has not.
    """
    try:
        admitted = Message.model_validate(message)
    except ValidationError as exc:
        raise InvalidMessage(describe_problem(exc, field)) from None
    text = admitted.model_dump_json(exclude_defaults=True)
    _check_message_size(text, field=field, max_bytes=max_bytes)
    if ESCAPED_NUL in text:
        try:
            check_no_nul(admitted.model_dump(mode="json"), path=field)
        except NotStorable as exc:
            raise InvalidMessage(str(exc)) from None
    return admitted


def _check_message_size(text: str, *, field: str, max_bytes: int) -> None:
    size = len(text.encode("utf-8"))
    if size > max_bytes:
        raise InvalidMessage(
            f"{field} has {size} bytes, the limit is {max_bytes};"
            " shorten it, or store the text elsewhere and add a reference"
        )


def check_batch(messages: object) -> None:
    """Check that these are some messages, and not more than one step should add.

    Raises:
        InvalidRequest: they are not.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(
        messages, Sequence
    ):
        kind = type(messages).__name__
        raise InvalidRequest(f"messages must be a list (got {kind}); send a list")
    if len(messages) > MAX_BATCH:
        raise InvalidRequest(
            f"messages are {len(messages)}, the limit is {MAX_BATCH} at once;"
            " add them in parts, or import a transcript"
        )


def admit_conversation(
    conversation_id: str | None,
    *,
    tenant: str,
    config: ConversationConfig | Mapping[str, object] | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
    hidden: bool = False,
) -> Conversation:
    """Return a new conversation; without an id it gets one, a hidden one its kind.

    Raises:
        InvalidRequest: id, tenant, config or metadata cannot be taken.
    """
    given = {
        "id": new_hidden_id()
        if hidden and conversation_id is None
        else conversation_id,
        "tenant": tenant,
        "config": config,
        "metadata": None if metadata is None else dict(metadata),
        "hidden": hidden,
    }
    named = {field: value for field, value in given.items() if value is not None}
    try:
        return Conversation.model_validate(named)
    except ValidationError as exc:
        raise InvalidRequest(describe_problem(exc, "conversation")) from None


def admit_metadata(
    metadata: Mapping[str, JsonValue], *, max_bytes: int
) -> dict[str, JsonValue]:
    """Return the metadata when it is plain JSON of a fair size.

    Raises:
        InvalidRequest: it is not.
    """
    if not isinstance(metadata, Mapping):
        kind = type(metadata).__name__
        raise InvalidRequest(f"metadata must be an object (got {kind}); send one")
    plain = dict(metadata)
    try:
        check_json(plain, path="metadata")
        check_no_nul(plain, path="metadata")
    except NotStorable as exc:
        raise InvalidRequest(str(exc)) from None
    size = size_of(plain)
    if size > max_bytes:
        raise InvalidRequest(
            f"metadata has {size} bytes, the limit is {max_bytes}; store less in it"
        )
    return plain


def check_address(tenant: str, conversation_id: str = "any") -> None:
    """Check that tenant and id may stand in a key.

    Raises:
        InvalidRequest: one of them may not.
    """
    for field, value in (("tenant", tenant), ("conversation_id", conversation_id)):
        try:
            check_identifier(value)
        except NotStorable as exc:
            raise InvalidRequest(f"{field}: {exc}") from None


def check_page(
    limit: int, *, before: int | None = None, after: int | None = None
) -> None:
    """Check the bounds of a page.

    Raises:
        InvalidRequest: a bound is out of range.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        kind = type(limit).__name__
        raise InvalidRequest(f"limit must be a number (got {kind}); send one")
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(
            f"limit must be 1 to {MAX_PAGE} (got {limit}); read further pages for more"
        )
    for field, bound in (("before", before), ("after", after)):
        if bound is not None:
            check_seq(bound, field=field)


def check_seq(seq: int, *, field: str = "seq") -> None:
    """Check that a message could have the number.

    Raises:
        InvalidRequest: none could.
    """
    if isinstance(seq, bool) or not isinstance(seq, int):
        kind = type(seq).__name__
        raise InvalidRequest(f"{field} must be a number (got {kind}); pass a seq")
    if not 0 <= seq <= MAX_SEQ:
        raise InvalidRequest(
            f"{field} must be 0 to 2^52 (got {seq}); pass a message's seq"
        )


def check_turn(turn: str) -> None:
    """Check that a turn could have the id.

    Raises:
        InvalidRequest: none could.
    """
    try:
        check_identifier(turn)
    except NotStorable as exc:
        raise InvalidRequest(f"turn: {exc}") from None


def without_repeats(messages: Sequence[Message]) -> dict[int, Message]:
    """Return those whose client id does not stand before them, by their places."""
    known: set[str] = set()
    fresh: dict[int, Message] = {}
    for place, message in enumerate(messages):
        if message.client_id is None or message.client_id not in known:
            fresh[place] = message
            known.add(message.client_id or "")
    return fresh


def check_cursor(cursor: str | None) -> None:
    """Check that the cursor can be one of ours.

    Raises:
        InvalidRequest: it is none.
    """
    if cursor is None:
        return
    if not isinstance(cursor, str):
        kind = type(cursor).__name__
        raise InvalidRequest(f"cursor must be text (got {kind}); pass next_cursor")
    place = whole_number(cursor)
    if place is None or place >= MAX_SEQ:
        raise InvalidRequest(
            f"cursor ({len(cursor)} characters) is none of this service;"
            " pass next_cursor of the page before"
        )


def history_up_to(
    history: Sequence[StoredMessage], at: int
) -> tuple[StoredMessage, ...]:
    """Return the history up to and with message `at`.

    Raises:
        InvalidHistory: `at` is not kept, or a tool result stands right after it.
    """
    kept = [stored.seq for stored in history]
    if at not in kept:
        raise InvalidHistory(not_kept(at))
    end = kept.index(at) + 1
    if end < len(history) and history[end].message.role is Role.TOOL:
        raise InvalidHistory(
            f"at ({at}) stands between a tool call and its results;"
            " choose the last of the results or the message before the call"
        )
    return tuple(history[:end])


def not_kept(at: int | None) -> str:
    """Why a fork at a message is refused."""
    return f"at must be the seq of a message that is still kept (got {at})"


def describe_problem(exc: ValidationError, field: str) -> str:
    """One sentence on the first problem: the field, the reason, the value's type."""
    problem = exc.errors(include_url=False)[0]
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]
    )
    reason = problem["msg"].removeprefix("Value error, ")
    kind = type(problem["input"]).__name__
    return f"{field}{path}: {reason} (got {kind}); correct it and send it again"
