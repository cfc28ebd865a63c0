"""What a program does with conversations: the contract. Knows no task and no agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from conversations.conversation import Conversation, ConversationConfig
from conversations.message import Message, StoredMessage
from conversations.store import ConversationPage
from conversations.view import ConversationView

DEFAULT_TENANT = "default"
MessageInput = Message | Mapping[str, object]
"""A message, or a mapping of its fields."""


class ConversationService(Protocol):
    """Keeps message histories. An unknown id is another tenant's, expired, or deleted.

    Every method may raise `ConversationStoreUnavailable`; those that take an id raise
    `ConversationNotFound`; all raise `InvalidRequest` for arguments out of range.
    """

    async def create(
        self,
        *,
        conversation_id: str | None = None,
        config: ConversationConfig | Mapping[str, object] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Start an empty conversation; without an id it gets one.

        Raises:
            ConversationConflict: the id is taken, or was deleted within a day.
        """
        ...

    async def get(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> Conversation:
        """Return the head."""
        ...

    async def list(
        self,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> ConversationPage:
        """Return conversations whose metadata equals every given pair, newest first."""
        ...

    async def update_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, JsonValue],
        *,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Replace the metadata."""
        ...

    async def add_message(
        self,
        conversation_id: str,
        message: MessageInput,
        *,
        expected_last_seq: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> StoredMessage:
        """Append one message; see `add_messages`."""
        ...

    async def add_messages(
        self,
        conversation_id: str,
        messages: Sequence[MessageInput],
        *,
        expected_last_seq: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[StoredMessage, ...]:
        """Append all messages together, or none.

        A message whose `client_id` is in the log already is not added again; give one
        to be able to repeat a call whose answer was lost.

        Raises:
            InvalidMessage: a message has a bad shape, role, text or size.
            RoleForbidden: its role is none that the service takes.
            RedactionFailed: the redaction hook did not return a message.
            InvalidHistory: a tool result without its call, or the reverse.
            ConversationConflict: `expected_last_seq` is not the last number.
        """
        ...

    async def get_messages(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[StoredMessage, ...]:
        """Return messages in order: the first ones after `after`, else the last ones.

        Only numbers below `before` count when it is given.
        """
        ...

    async def window(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> tuple[Message, ...]:
        """Return the messages that a model is to see, within the configured bounds.

        Raises:
            ContextTooLong: with `compaction: none`, the history exceeds them.
        """
        ...

    async def view(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> ConversationView:
        """Return the window with the bounds, and what a run is to summarise first.

        Raises:
            ContextTooLong: with `compaction: none`, the history exceeds them.
        """
        ...

    async def fork(
        self,
        conversation_id: str,
        *,
        at: int | None = None,
        new_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Copy the conversation up to message `at` (or all of it) into a new one.

        Raises:
            InvalidHistory: `at` is not kept, or stands between a call and its results.
            ConversationConflict: `new_id` is taken.
        """
        ...

    def export_lines(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> AsyncIterator[str]:
        """Yield head and all kept messages as JSON Lines, read in pieces.

        Messages that come meanwhile are not part of it.

        Raises:
            ConversationConflict: retention or a delete has removed messages meanwhile.
        """
        ...

    async def export(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> str:
        """Return the lines of `export_lines` as one text."""
        ...

    async def import_lines(
        self,
        lines: Iterable[str],
        *,
        conversation_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Create a conversation of exported lines, under its own id or another.

        Messages keep their numbers, turns and instants. All is checked before the
        first write, and nobody sees it before the last.

        Raises:
            InvalidHistory: the lines are no transcript, or its history is not valid.
            InvalidMessage: a message is too large.
            RoleForbidden: a role is none that the service takes.
            RedactionFailed: the redaction hook did not return a message.
            ConversationConflict: the id is taken.
        """
        ...

    async def import_(
        self,
        transcript: str,
        *,
        conversation_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Create a conversation of an exported text; see `import_lines`."""
        ...

    async def delete(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> bool:
        """Delete head and messages; tell whether it was there."""
        ...
