"""What a program does with conversations: checks at the border, then the store.

`ConversationService` is the contract. Knows no task, no agent and no concrete store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from conversations.admission import (
    admit_conversation,
    admit_message,
    admit_metadata,
    check_address,
    check_cursor,
    check_page,
)
from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import RoleForbidden
from conversations.message import Message, Role, StoredMessage
from conversations.redaction import Redact, redacted
from conversations.store import ConversationPage, ConversationStore
from conversations.transcript import read_transcript, transcript_lines
from conversations.view import ConversationView, read_view

DEFAULT_TENANT = "default"
MAX_MESSAGE_BYTES = 256 * 1024
"""A message is sent with every later completion; larger ones belong in documents."""

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


class StoredConversationService:
    """The `ConversationService` on a `ConversationStore`."""

    def __init__(
        self,
        store: ConversationStore,
        *,
        default_config: ConversationConfig | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        client_roles: Collection[Role] = frozenset(Role),
        redact: Redact | None = None,
    ) -> None:
        """Serve from a store.

        Args:
            store: Where conversations are kept.
            default_config: The limits of a conversation created without any.
            max_message_bytes: Of one message, as it is stored.
            client_roles: Whose words may be added or imported through this service;
                turns enter by their tasks and are not asked.
            redact: Takes out of each message what must not be stored.
        """
        self._store = store
        self._default_config = default_config or ConversationConfig()
        self._max_message_bytes = max_message_bytes
        self._client_roles = frozenset(client_roles)
        self._redact = redact

    async def create(
        self,
        *,
        conversation_id: str | None = None,
        config: ConversationConfig | Mapping[str, object] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        conversation = admit_conversation(
            conversation_id,
            config=self._default_config if config is None else config,
            metadata=self._metadata(metadata or {}),
            tenant=tenant,
        )
        return await self._store.create(conversation)

    async def get(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> Conversation:
        check_address(tenant, conversation_id)
        return await self._store.get(tenant, conversation_id)

    async def list(
        self,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> ConversationPage:
        check_address(tenant)
        check_page(limit)
        check_cursor(cursor)
        return await self._store.list(
            tenant, metadata=self._metadata(metadata or {}), limit=limit, cursor=cursor
        )

    async def update_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, JsonValue],
        *,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        check_address(tenant, conversation_id)
        return await self._store.update_metadata(
            tenant, conversation_id, self._metadata(metadata)
        )

    async def add_message(
        self,
        conversation_id: str,
        message: MessageInput,
        *,
        expected_last_seq: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> StoredMessage:
        (stored,) = await self.add_messages(
            conversation_id,
            [message],
            expected_last_seq=expected_last_seq,
            tenant=tenant,
        )
        return stored

    async def add_messages(
        self,
        conversation_id: str,
        messages: Sequence[MessageInput],
        *,
        expected_last_seq: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[StoredMessage, ...]:
        check_address(tenant, conversation_id)
        checked = [
            self._admitted(message, field=f"messages[{place}]")
            for place, message in enumerate(messages)
        ]
        return await self._store.append(
            tenant, conversation_id, checked, expected_last_seq=expected_last_seq
        )

    async def get_messages(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[StoredMessage, ...]:
        check_address(tenant, conversation_id)
        check_page(limit, before=before, after=after)
        return await self._store.read(
            tenant, conversation_id, limit=limit, before=before, after=after
        )

    async def window(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> tuple[Message, ...]:
        return (await self.view(conversation_id, tenant=tenant)).messages()

    async def view(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> ConversationView:
        check_address(tenant, conversation_id)
        return await read_view(self._store, tenant, conversation_id)

    async def fork(
        self,
        conversation_id: str,
        *,
        at: int | None = None,
        new_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        check_address(tenant, conversation_id)
        copy = admit_conversation(
            new_id, config=ConversationConfig(), metadata={}, tenant=tenant
        )
        return await self._store.fork(tenant, conversation_id, copy, at=at)

    def export_lines(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> AsyncIterator[str]:
        check_address(tenant, conversation_id)
        return transcript_lines(self._store, tenant, conversation_id)

    async def export(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> str:
        lines = self.export_lines(conversation_id, tenant=tenant)
        return "".join([line async for line in lines])

    async def import_lines(
        self,
        lines: Iterable[str],
        *,
        conversation_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        head, history = read_transcript(lines)
        history = tuple(
            stored.model_copy(
                update={
                    "message": self._admitted(
                        stored.message, field=f"message {stored.seq}"
                    )
                }
            )
            for stored in history
        )
        conversation = admit_conversation(
            conversation_id or head.id,
            config=head.config,
            metadata=self._metadata(head.metadata),
            tenant=tenant,
        )
        return await self._store.create(conversation, history=history)

    async def import_(
        self,
        transcript: str,
        *,
        conversation_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        return await self.import_lines(
            transcript.rstrip("\n").split("\n"),
            conversation_id=conversation_id,
            tenant=tenant,
        )

    async def delete(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> bool:
        check_address(tenant, conversation_id)
        return await self._store.delete(tenant, conversation_id)

    def _admitted(self, message: MessageInput, *, field: str) -> Message:
        admitted = admit_message(
            message, field=field, max_bytes=self._max_message_bytes
        )
        if admitted.role not in self._client_roles:
            raise RoleForbidden(field, admitted.role, self._client_roles)
        return redacted(admitted, self._redact)

    def _metadata(self, metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        return admit_metadata(metadata, max_bytes=self._max_message_bytes)
