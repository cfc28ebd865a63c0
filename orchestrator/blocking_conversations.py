"""The conversations service for synchronous callers: signatures, no logic."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any

from pydantic import JsonValue

from conversations.conversation import Conversation, ConversationConfig
from conversations.message import Message, StoredMessage
from conversations.service import ConversationService, MessageInput
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
        messages: Sequence[MessageInput] = (),
        hidden: bool = False,
        tenant: str | None = None,
    ) -> Conversation:
        """Start a conversation, empty or with messages."""
        created: Conversation = self._await(
            self._service.create(
                conversation_id=conversation_id,
                config=config,
                metadata=metadata,
                messages=messages,
                hidden=hidden,
                tenant=tenant,
            )
        )
        return created

    def get(self, conversation_id: str, *, tenant: str | None = None) -> Conversation:
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
        tenant: str | None = None,
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
        tenant: str | None = None,
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
        tenant: str | None = None,
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
        tenant: str | None = None,
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
        tenant: str | None = None,
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

    def get_message(
        self, conversation_id: str, seq: int, *, tenant: str | None = None
    ) -> StoredMessage:
        """Return one message."""
        stored: StoredMessage = self._await(
            self._service.get_message(conversation_id, seq, tenant=tenant)
        )
        return stored

    def get_turn(
        self, conversation_id: str, turn: str, *, tenant: str | None = None
    ) -> tuple[StoredMessage, ...]:
        """Return what a task has added."""
        messages: tuple[StoredMessage, ...] = self._await(
            self._service.get_turn(conversation_id, turn, tenant=tenant)
        )
        return messages

    def delete_message(
        self, conversation_id: str, seq: int, *, tenant: str | None = None
    ) -> Conversation:
        """Take one message out; return the head."""
        head: Conversation = self._await(
            self._service.delete_message(conversation_id, seq, tenant=tenant)
        )
        return head

    def fork(
        self,
        conversation_id: str,
        *,
        at: int | None = None,
        new_id: str | None = None,
        hidden: bool = False,
        tenant: str | None = None,
    ) -> Conversation:
        """Begin a conversation with the history of another up to message `at`."""
        copy: Conversation = self._await(
            self._service.fork(
                conversation_id, at=at, new_id=new_id, hidden=hidden, tenant=tenant
            )
        )
        return copy

    def branch(
        self, conversation_id: str, *, at: int, tenant: str | None = None
    ) -> Conversation:
        """Return a hidden conversation that ends at message `at`."""
        head: Conversation = self._await(
            self._service.branch(conversation_id, at=at, tenant=tenant)
        )
        return head

    def window(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> tuple[Message, ...]:
        """Return the messages that a model is to see."""
        messages: tuple[Message, ...] = self._await(
            self._service.window(conversation_id, tenant=tenant)
        )
        return messages

    def export_lines(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> Iterator[str]:
        """Yield head and messages as JSON Lines, read in pieces."""
        lines = self._service.export_lines(conversation_id, tenant=tenant)
        while (line := self._await(_next(lines))) is not None:
            yield line

    def import_lines(
        self,
        lines: Iterable[str],
        *,
        conversation_id: str | None = None,
        tenant: str | None = None,
    ) -> Conversation:
        """Create a conversation of exported lines."""
        created: Conversation = self._await(
            self._service.import_lines(
                lines, conversation_id=conversation_id, tenant=tenant
            )
        )
        return created

    def export(self, conversation_id: str, *, tenant: str | None = None) -> str:
        """Return head and messages as JSON Lines text."""
        text: str = self._await(self._service.export(conversation_id, tenant=tenant))
        return text

    def import_(
        self,
        transcript: str,
        *,
        conversation_id: str | None = None,
        tenant: str | None = None,
    ) -> Conversation:
        """Create a conversation of an exported text."""
        created: Conversation = self._await(
            self._service.import_(
                transcript, conversation_id=conversation_id, tenant=tenant
            )
        )
        return created

    def delete(
        self, conversation_id: str, *, at: int | None = None, tenant: str | None = None
    ) -> bool:
        """Delete it; tell whether it was there."""
        deleted: bool = self._await(
            self._service.delete(conversation_id, at=at, tenant=tenant)
        )
        return deleted


async def _next(lines: AsyncIterator[str]) -> str | None:
    return await anext(lines, None)
