"""Which messages may follow which: the rule for tool calls and their results.

Every chat completion server refuses a history that breaks it. Pure functions; the same
rule stands in `lua/append_functions.lua` for the Redis store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conversations.errors import InvalidHistory
from conversations.message import Message, Role

OpenCalls = frozenset[str]
"""Ids of the last assistant's calls that await their results."""


def follow(open_calls: OpenCalls, message: Message) -> OpenCalls:
    """Return the calls that are open after `message`."""
    if message.role is Role.TOOL:
        return open_calls - {message.tool_call_id or ""}
    return frozenset(call.id for call in message.tool_calls)


def open_after(messages: Sequence[Message]) -> OpenCalls:
    """Return the calls that are open after the messages."""
    answered: set[str | None] = set()
    for message in reversed(messages):
        if message.role is not Role.TOOL:
            return follow(frozenset(), message) - answered
        answered.add(message.tool_call_id)
    return frozenset()


def check_follows(open_calls: OpenCalls, message: Message, *, field: str) -> None:
    """Check that `message` may stand where these calls are open.

    Raises:
        InvalidHistory: a tool result without its call, or a call without its result.
    """
    if message.role is Role.TOOL:
        if message.tool_call_id not in open_calls:
            raise orphan_result(field)
    elif open_calls:
        raise unanswered_calls(field, message.role, len(open_calls))


def orphan_result(field: str) -> InvalidHistory:
    """The error for a tool message that answers no open call."""
    return InvalidHistory(
        f"{field}.tool_call_id has no call in the assistant message before it;"
        " put each tool message after the call that it answers"
    )


def unanswered_calls(field: str, role: Role, count: int) -> InvalidHistory:
    """The error for a message that stands where tool messages are awaited."""
    return InvalidHistory(
        f"{field} has the role {role.value}, but {count} tool call(s) before it have"
        " no result; add their tool messages first"
    )


def check_places(
    messages: Mapping[int, Message], open_calls: OpenCalls = frozenset()
) -> OpenCalls:
    """Check that messages may stand where these calls are open; return those after.

    Raises:
        InvalidHistory: names the first message that does not fit by its place.
    """
    for place, message in messages.items():
        check_follows(open_calls, message, field=f"messages[{place}]")
        open_calls = follow(open_calls, message)
    return open_calls


def check_history(messages: Sequence[Message]) -> None:
    """Check that a server would accept the messages.

    Raises:
        InvalidHistory: names the first message that does not fit.
    """
    open_calls = check_places(dict(enumerate(messages)))
    if open_calls:
        raise InvalidHistory(
            f"messages end with {len(open_calls)} tool call(s) without a result;"
            " add their tool messages"
        )


def starts_unit(message: Message, *, turn: str | None, continues_turn: bool) -> bool:
    """Tell whether retention may cut before `message`.

    A turn is dropped whole. A message that was added by hand is a turn of one, but a
    tool result goes with its call.
    """
    return message.role is not Role.TOOL and not (turn and continues_turn)
