"""What a program does with conversations: the contract. Knows no task and no agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from conversations.conversation import Conversation, ConversationConfig
from conversations.message import Message, StoredMessage
from conversations.store import ConversationPage, WindowRead
from conversations.view import ConversationView

DEFAULT_TENANT = "default"
MessageInput = Message | Mapping[str, object]
"""A message, or a mapping of its fields."""


class ConversationService(Protocol):
    """Keeps message histories. An unknown id is another tenant's, expired, or deleted.

    A call that names no tenant means the service's own: that of the settings.

    Every method may raise `ConversationStoreUnavailable`; those that take an id raise
    `ConversationNotFound`; all raise `InvalidRequest` for arguments out of range.
    """

    async def create(
        self,
        *,
        conversation_id: str | None = None,
        config: ConversationConfig | Mapping[str, object] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        messages: Sequence[MessageInput] = (),
        hidden: bool = False,
        tenant: str | None = None,
    ) -> Conversation:
        """Start a conversation, empty or with messages; without an id it gets one.

        Raises:
            ConversationConflict: the id is taken, or was deleted within a day.
            InvalidMessage, InvalidHistory, RoleForbidden, RedactionFailed: as
                `add_messages`; then there is no conversation.
        """
        ...

    async def get(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> Conversation:
        """Return the head."""
        ...

    async def list(
        self,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str | None = None,
    ) -> ConversationPage:
        """Return conversations whose metadata equals every given pair, newest first.

        Hidden ones are left out.
        """
        ...

    async def update_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, JsonValue],
        *,
        tenant: str | None = None,
    ) -> Conversation:
        """Replace the metadata."""
        ...

    async def add_message(
        self,
        conversation_id: str,
        message: MessageInput,
        *,
        expected_last_seq: int | None = None,
        tenant: str | None = None,
    ) -> StoredMessage:
        """Append one message; see `add_messages`."""
        ...

    async def add_messages(
        self,
        conversation_id: str,
        messages: Sequence[MessageInput],
        *,
        expected_last_seq: int | None = None,
        tenant: str | None = None,
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
        tenant: str | None = None,
    ) -> tuple[StoredMessage, ...]:
        """Return messages in order: the first ones after `after`, else the last ones.

        Only numbers below `before` count when it is given.
        """
        ...

    async def get_message(
        self, conversation_id: str, seq: int, *, tenant: str | None = None
    ) -> StoredMessage:
        """Return one message.

        Raises:
            MessageNotFound: it never was, was dropped, or was deleted.
        """
        ...

    async def get_turn(
        self, conversation_id: str, turn: str, *, tenant: str | None = None
    ) -> tuple[StoredMessage, ...]:
        """Return what a task has added, by its id; the last one is where it ended.

        Raises:
            MessageNotFound: the turn has not ended, left nothing, or was dropped.
        """
        ...

    async def delete_message(
        self, conversation_id: str, seq: int, *, tenant: str | None = None
    ) -> Conversation:
        """Take one message out for good; return the head.

        Tool calls and their results go together, whichever of them is named; no other
        message changes its number.

        Raises:
            MessageNotFound: it is not there.
        """
        ...

    async def window(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> tuple[Message, ...]:
        """Return the messages that a model is to see, within the configured bounds.

        Raises:
            ContextTooLong: with `compaction: none`, the history exceeds them.
        """
        ...

    async def view(
        self,
        conversation_id: str,
        *,
        tenant: str | None = None,
        read: WindowRead | None = None,
    ) -> ConversationView:
        """Return the window with the bounds, and what a run is to summarise first.

        It is chosen from what was `read` along with something else, if anything was.

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
        hidden: bool = False,
        tenant: str | None = None,
    ) -> Conversation:
        """Copy the conversation up to message `at` (or all of it) into a new one.

        Raises:
            InvalidHistory: `at` is not kept, or stands between a call and its results.
            ConversationConflict: `new_id` is taken.
        """
        ...

    async def branch(
        self, conversation_id: str, *, at: int, tenant: str | None = None
    ) -> Conversation:
        """Return a hidden conversation that ends at message `at`, to go on in.

        A hidden conversation that ends there is continued by the first who asks, at no
        cost; every other one gets a fork. Nobody sees what another adds.

        Raises:
            InvalidHistory: `at` is not kept, or stands between a call and its results.
        """
        ...

    def export_lines(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> AsyncIterator[str]:
        """Yield head and all kept messages as JSON Lines, read in pieces.

        Messages that come meanwhile are not part of it.

        Raises:
            ConversationConflict: retention or a delete has removed messages meanwhile.
        """
        ...

    async def export(self, conversation_id: str, *, tenant: str | None = None) -> str:
        """Return the lines of `export_lines` as one text."""
        ...

    async def import_lines(
        self,
        lines: Iterable[str],
        *,
        conversation_id: str | None = None,
        tenant: str | None = None,
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
        tenant: str | None = None,
    ) -> Conversation:
        """Create a conversation of an exported text; see `import_lines`."""
        ...

    async def delete(
        self, conversation_id: str, *, at: int | None = None, tenant: str | None = None
    ) -> bool:
        """Delete head and messages; tell whether it was there or was to begin.

        Turns that have not ended enter nothing, nor does a first one, before whose end
        nothing is stored. With `at`, it is deleted only while it ends at that message
        and no turn goes on in it.
        """
        ...
