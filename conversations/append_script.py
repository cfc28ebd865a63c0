"""Append and window as parts of larger scripts: Lua functions, keys and arguments.

Whoever must append in the same transaction as its own change composes a script of
`APPEND_FUNCTIONS`, calls `conversation_append_plan(keys, argv)` before its first write
and, when the plan is not `refused`, `conversation_append_write(keys, argv, plan,
now_ms)`.
The tables `keys` and `argv` hold exactly what `append_keys` and `append_arguments`
return. `conversation_close(keys, close, now_ms)` adds a turn that ended without an
answer. With `WINDOW_FUNCTIONS` behind them `conversation_window(keys)` reads what a
model may see. Knows no Redis client.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from secrets import token_hex
from typing import NamedTuple

from conversations.closing import closing_table
from conversations.conversation import ConversationConfig
from conversations.errors import (
    ConversationConflict,
    ConversationError,
    ConversationNotFound,
    InvalidHistory,
)
from conversations.history import orphan_result, unanswered_calls
from conversations.json_value import check_identifier
from conversations.message import Message, Role
from conversations.record import write_limits, write_message


def read_lua(name: str) -> str:
    """Text of a script of this room."""
    return (files("conversations.lua") / f"{name}.lua").read_text(encoding="utf-8")


APPEND_FUNCTIONS = closing_table() + read_lua("append_functions")
"""Lua source that defines the functions; local names start with `conversation_`."""
WINDOW_FUNCTIONS = read_lua("window_functions")
"""The same of the window."""


class ConversationKeys(NamedTuple):
    """The Redis keys of one conversation, in the order that the scripts expect."""

    head: str
    log: str
    seen: str
    open: str
    system: str
    tombstone: str
    tenant_index: str


def conversation_prefix(tenant: str) -> str:
    """What every conversation key of a tenant starts with.

    Raises:
        NotStorable: the tenant is no identifier.
    """
    return f"celeriac:{check_identifier(tenant)}:conversation:"


def index_key(tenant: str) -> str:
    """The tenant's list of conversations; no identifier starts with '_'."""
    return f"{conversation_prefix(tenant)}_index"


def append_keys(tenant: str, conversation_id: str) -> ConversationKeys:
    """The keys that an append needs.

    Raises:
        NotStorable: tenant or id is no identifier, so that it may not stand in a key.
    """
    head = conversation_prefix(tenant) + check_identifier(conversation_id)
    return ConversationKeys(
        head,
        f"{head}:log",
        f"{head}:seen",
        f"{head}:open",
        f"{head}:system",
        f"{head}:tombstone",
        index_key(tenant),
    )


def append_arguments(
    messages: Sequence[Message],
    *,
    turn: str | None,
    expected_last_seq: int | None = None,
    create_with: ConversationConfig | None = None,
) -> tuple[str, ...]:
    """The arguments of an append; use one result for all repeats of one append."""
    limits = ("", "", "") if create_with is None else write_limits(create_with)
    expected = "" if expected_last_seq is None else str(expected_last_seq)
    arguments = [turn or "", expected, *limits]
    for message in messages:
        arguments += [
            str(message.role),
            _repeat_mark(message, turn),
            write_message(message),
            kind_of(message),
            message.tool_call_id or "",
            str(len(message.tool_calls)),
            *(call.id for call in message.tool_calls),
        ]
    return tuple(arguments)


def kind_of(message: Message) -> str:
    """What the window's script must know of a message."""
    if message.covers is not None:
        return "summary"
    return "kept" if message.pinned or message.role is Role.SYSTEM else ""


def append_error(
    refusal: str, conversation_id: str, *, expected_last_seq: int | None = None
) -> ConversationError:
    """The error for a word of a plan's `refused` that has no place."""
    match refusal:
        case "conflict":
            return ConversationConflict(
                f"conversation {conversation_id!r} does not end at"
                f" expected_last_seq {expected_last_seq}; read what was added"
                " and decide again",
                conversation_id=conversation_id,
            )
        case _:
            return ConversationNotFound(conversation_id)


def place_error(
    refusal: str, messages: Sequence[Message], place: int, open_calls: int
) -> InvalidHistory | None:
    """The error for a word of a plan's `refused` that has a place, or None."""
    if refusal == "orphan_result":
        return orphan_result(f"messages[{place}]")
    if refusal == "unanswered_calls":
        return unanswered_calls(f"messages[{place}]", messages[place].role, open_calls)
    return None


def _repeat_mark(message: Message, turn: str | None) -> str:
    """What a repeat is known by; a turn's own id covers its messages.

    Hand-added messages get a mark that no client id can equal, because a Redis client
    may send a command again after a lost connection.
    """
    if message.client_id is not None or turn is not None:
        return message.client_id or ""
    return f"_{token_hex(8)}"
