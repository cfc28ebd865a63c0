"""Conversations: message histories that several writers share and models can read.

A leaf of the system: knows no task and no agent. Concrete stores are imported from
their own modules, so that this package loads no Redis client.
"""

from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import (
    ContextTooLong,
    ConversationBusy,
    ConversationConflict,
    ConversationError,
    ConversationNotFound,
    ConversationStoreUnavailable,
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
