"""Errors of the conversations room.

ConversationError
├── ConversationNotFound    no such conversation for this tenant
├── MessageNotFound         the conversation has no such message, or turn
├── ConversationConflict    it exists already, or its last message is another
├── ConversationBusy        a task runs on it and the caller would not wait
├── InvalidRequest          an id, a limit, configuration or metadata cannot be taken
├── InvalidMessage          one message cannot be stored
├── InvalidHistory          messages that do not fit together
├── RoleForbidden           the caller may not write messages of this role
├── RedactionFailed         the redaction hook failed; nothing was stored
├── ContextTooLong          what a model must see exceeds the bounds
└── ConversationStoreUnavailable  the store did not answer, or refused to write
    └── ConversationUnreadable    something else stands in place of a conversation
"""

from __future__ import annotations

from collections.abc import Iterable


class ConversationError(Exception):
    """Anything that the conversations room refuses."""


class ConversationNotFound(ConversationError):
    """No conversation of this tenant has this id (or it expired)."""

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        super().__init__(
            f"conversation {conversation_id!r} was not found;"
            " it may have expired, been deleted, or belong to another tenant"
        )


class MessageNotFound(ConversationError):
    """A conversation has no message of this number, or no turn of this id."""

    def __init__(self, conversation_id: str, wanted: str) -> None:
        self.conversation_id = conversation_id
        super().__init__(
            f"{wanted} was not found in conversation {conversation_id!r};"
            " it may have been dropped or deleted"
        )


class ConversationConflict(ConversationError):
    """The conversation is not in the state that the caller expected."""

    def __init__(self, message: str, *, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        super().__init__(message)


class ConversationBusy(ConversationError):
    """A task holds or awaits the conversation and `when_busy` is `reject`."""

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        super().__init__(
            f"conversation {conversation_id!r} has an unfinished task;"
            " wait for it, or submit with when_busy='enqueue'"
        )


class InvalidRequest(ConversationError, ValueError):
    """An id, a limit, configuration or metadata cannot be taken."""


class InvalidMessage(ConversationError):
    """A message has a bad shape, role, text or size."""


class InvalidHistory(ConversationError):
    """Messages do not fit together, such as a tool result without its call."""


class RoleForbidden(ConversationError):
    """A client would put words into another's mouth."""

    code = "role_forbidden"

    def __init__(self, field: str, role: str, allowed: Iterable[str]) -> None:
        self.role = str(role)
        super().__init__(
            f"{field}.role {str(role)!r} may not be written here, only"
            f" {', '.join(sorted(allowed)) or 'none'};"
            " send it as one of these, or allow it in client_roles"
        )


class RedactionFailed(ConversationError):
    """The redaction hook did not return a message that can be stored."""

    code = "redaction_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the redaction hook failed ({reason}) and nothing was stored;"
            " correct the function that services.conversations.redact names"
        )


class ContextTooLong(ConversationError):
    """What a model must see does not fit, and nothing more may be left out."""

    code = "context_too_long"

    def __init__(self, *, needed: int, limit: int, unit: str = "tokens") -> None:
        self.needed = needed
        self.limit = limit
        field = "context_window" if unit == "messages" else "context_tokens"
        super().__init__(
            f"the prompt needs about {needed} {unit}, the limit is {limit};"
            f" raise {field}, choose another compaction, or send less"
        )


class ConversationStoreUnavailable(ConversationError):
    """The store did not answer in time or refused the write."""


class ConversationUnreadable(ConversationStoreUnavailable):
    """The store holds something else in place of ours; asking again does not help."""

    code = "damaged"


def creation_refused(conversation_id: str, *, deleted: bool) -> ConversationConflict:
    """The error for an id that cannot be given to a new conversation."""
    reason = (
        "was deleted less than a day ago; choose another id"
        if deleted
        else "exists already; choose another id or append to it"
    )
    return ConversationConflict(
        f"conversation {conversation_id!r} {reason}", conversation_id=conversation_id
    )
