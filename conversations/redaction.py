"""What is taken out of messages before they are stored: a hook of the operator's.

It sees each message once, on its way into a history; models see stored history as it
left it. Knows no store.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import iscoroutinefunction

from conversations.errors import InvalidRequest, RedactionFailed
from conversations.message import Message, Role

Redact = Callable[[Message], Message]
"""Returns the message that is stored instead; role and calls stay as they are."""


def load_redact(path: str | None) -> Redact | None:
    """Import the function that `package.module:function` names; None without a path.

    Raises:
        InvalidRequest: it cannot be imported or called.
    """
    if path is None:
        return None
    module_name, _, name = path.partition(":")
    try:
        function = getattr(import_module(module_name), name)
    except Exception as exc:  # of the module's own code too
        raise InvalidRequest(
            f"redact names {path!r}, which cannot be imported ({type(exc).__name__});"
            " write it as package.module:function"
        ) from exc
    if not callable(function):
        raise InvalidRequest(f"redact names {path!r}, which is no function; name one")
    if iscoroutinefunction(function):
        raise InvalidRequest(
            f"redact names {path!r}, a coroutine function; name one that is none"
        )
    redact: Redact = function
    return redact


def redacted(message: Message, redact: Redact | None) -> Message:
    """Return the message as it may be stored.

    Raises:
        RedactionFailed: the hook raised, or changed what must stay; store nothing.
    """
    if redact is None:
        return message
    try:
        changed = Message.model_validate(redact(message).model_dump())
    except Exception as exc:
        raise RedactionFailed(type(exc).__name__) from exc
    same = (message.role, message.tool_call_id, message.client_id, message.covers)
    if (changed.role, changed.tool_call_id, changed.client_id, changed.covers) != same:
        raise RedactionFailed("it changed role, tool_call_id, client_id or covers")
    ids = [call.id for call in message.tool_calls]
    if [call.id for call in changed.tool_calls] != ids:
        raise RedactionFailed("it changed the ids of tool calls")
    return changed


def redacted_text(text: str, redact: Redact | None) -> str:
    """Return a piece of an answer as it may be stored.

    Raises:
        RedactionFailed: the hook raised.
    """
    if redact is None:
        return text
    return redacted(Message(role=Role.ASSISTANT, content=text), redact).content
