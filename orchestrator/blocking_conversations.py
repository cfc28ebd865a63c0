"""The conversations service for synchronous callers: signatures, no logic."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from conversations.conversation import Conversation, ConversationConfig
from conversations.message import StoredMessage
from conversations.service import DEFAULT_TENANT, ConversationService, MessageInput
from conversations.store import ConversationPage

Await = Callable[[Coroutine[Any, Any, Any]], Any]
"""Drives a coroutine to its end and returns what it returns."""


class BlockingConversations:
    """Each method does what `ConversationService`'s of the same name does."""

    def __init__(self, service: ConversationService, await_: Await) -> None:
        self._service = service
        self._await = await_

    def create(
        self,
        *,
        conversation_id: str | None = None,
        config: ConversationConfig | Mapping[str, object] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Start an empty conversation."""
        created: Conversation = self._await(
            self._service.create(
                conversation_id=conversation_id,
                config=config,
                metadata=metadata,
                tenant=tenant,
            )
        )
        return created

    def get(
        self, conversation_id: str, *, tenant: str = DEFAULT_TENANT
    ) -> Conversation:
        """Return the head."""
        head: Conversation = self._await(
            self._service.get(conversation_id, tenant=tenant)
        )
        return head

    def list(
        self,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> ConversationPage:
        """Return conversations, newest first."""
        page: ConversationPage = self._await(
            self._service.list(
                metadata=metadata, limit=limit, cursor=cursor, tenant=tenant
            )
        )
        return page

    def update_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, JsonValue],
        *,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Replace the metadata."""
        head: Conversation = self._await(
            self._service.update_metadata(conversation_id, metadata, tenant=tenant)
        )
        return head

    def add_message(
        self,
        conversation_id: str,
        message: MessageInput,
        *,
        expected_last_seq: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> StoredMessage:
        """Append one message."""
        stored: StoredMessage = self._await(
            self._service.add_message(
                conversation_id,
                message,
                expected_last_seq=expected_last_seq,
                tenant=tenant,
            )
        )
        return stored

    def add_messages(
        self,
        conversation_id: str,
        messages: Sequence[MessageInput],
        *,
        expected_last_seq: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[StoredMessage, ...]:
        """Append all messages together, or none."""
        stored: tuple[StoredMessage, ...] = self._await(
            self._service.add_messages(
                conversation_id,
                messages,
                expected_last_seq=expected_last_seq,
                tenant=tenant,
            )
        )
        return stored

    def get_messages(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> tuple[StoredMessage, ...]:
        """Return messages in order."""
        messages: tuple[StoredMessage, ...] = self._await(
            self._service.get_messages(
                conversation_id,
                limit=limit,
                before=before,
                after=after,
                tenant=tenant,
            )
        )
        return messages

    def fork(
        self,
        conversation_id: str,
        *,
        at: int | None = None,
        new_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Copy the conversation up to message `at` into a new one."""
        copy: Conversation = self._await(
            self._service.fork(conversation_id, at=at, new_id=new_id, tenant=tenant)
        )
        return copy

    def export(self, conversation_id: str, *, tenant: str = DEFAULT_TENANT) -> str:
        """Return head and messages as JSON Lines text."""
        text: str = self._await(self._service.export(conversation_id, tenant=tenant))
        return text

    def import_(
        self,
        transcript: str,
        *,
        conversation_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Conversation:
        """Create a conversation of an exported text."""
        created: Conversation = self._await(
            self._service.import_(
                transcript, conversation_id=conversation_id, tenant=tenant
            )
        )
        return created

    def delete(self, conversation_id: str, *, tenant: str = DEFAULT_TENANT) -> bool:
        """Delete it; tell whether it was there."""
        deleted: bool = self._await(
            self._service.delete(conversation_id, tenant=tenant)
        )
        return deleted
