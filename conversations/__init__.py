"""Conversations: message histories that several writers share and models can read.

A leaf of the system: knows no task and no agent. Concrete stores are imported from
their own modules, so that this package loads no Redis client. Names are imported on
first use, so that an error's class costs no more than itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conversations.conversation import Conversation, ConversationConfig
    from conversations.errors import (
        ContextTooLong,
        ConversationBusy,
        ConversationConflict,
        ConversationError,
        ConversationNotFound,
        ConversationStoreUnavailable,
        ConversationUnreadable,
        InvalidHistory,
        InvalidMessage,
        InvalidRequest,
        MessageNotFound,
        RedactionFailed,
        RoleForbidden,
    )
    from conversations.message import Message, Role, StoredMessage, ToolCall
    from conversations.service import ConversationService
    from conversations.store import ConversationPage, ConversationStore
    from conversations.stored_service import (
        ConversationDefaults,
        StoredConversationService,
    )
    from conversations.view import ConversationView

_HOMES = {
    "conversation": (
        "Conversation",
        "ConversationConfig",
    ),
    "errors": (
        "ContextTooLong",
        "ConversationBusy",
        "ConversationConflict",
        "ConversationError",
        "ConversationNotFound",
        "ConversationStoreUnavailable",
        "ConversationUnreadable",
        "InvalidHistory",
        "InvalidMessage",
        "InvalidRequest",
        "MessageNotFound",
        "RedactionFailed",
        "RoleForbidden",
    ),
    "message": (
        "Message",
        "Role",
        "StoredMessage",
        "ToolCall",
    ),
    "service": ("ConversationService",),
    "store": (
        "ConversationPage",
        "ConversationStore",
    ),
    "stored_service": (
        "ConversationDefaults",
        "StoredConversationService",
    ),
    "view": ("ConversationView",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ContextTooLong",
    "Conversation",
    "ConversationBusy",
    "ConversationConfig",
    "ConversationConflict",
    "ConversationDefaults",
    "ConversationError",
    "ConversationNotFound",
    "ConversationPage",
    "ConversationService",
    "ConversationStore",
    "ConversationStoreUnavailable",
    "ConversationUnreadable",
    "ConversationView",
    "InvalidHistory",
    "InvalidMessage",
    "InvalidRequest",
    "Message",
    "MessageNotFound",
    "RedactionFailed",
    "Role",
    "RoleForbidden",
    "StoredConversationService",
    "StoredMessage",
    "ToolCall",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
