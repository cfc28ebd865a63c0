"""The conversations service on a store: checks at the border, then the store.

Knows no task, no agent and no concrete store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from conversations.admission import (
    admit_conversation,
    admit_message,
    admit_metadata,
    check_address,
    check_batch,
    check_cursor,
    check_page,
    check_seq,
    check_turn,
    without_repeats,
)
from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import MessageNotFound, RoleForbidden
from conversations.history import check_places
from conversations.message import Message, Role, StoredMessage
from conversations.redaction import Redact, redacted
from conversations.service import DEFAULT_TENANT, MessageInput
from conversations.store import ConversationPage, ConversationStore, WindowRead
from conversations.transcript import (
    TranscriptReader,
    lines_of,
    numbered_lines,
    transcript_lines,
)
from conversations.view import ConversationView, read_view

MAX_MESSAGE_BYTES = 256 * 1024
"""A message is sent with every later completion; larger ones belong in documents."""
LINES_AT_ONCE = 200
"""Lines of an import between two looks at what else the loop has to do."""


@dataclass(frozen=True)
class ConversationDefaults:
    """What holds where a call says nothing."""

    tenant: str = DEFAULT_TENANT
    """Whose conversations these are."""
    config: ConversationConfig = field(default_factory=ConversationConfig)
    """The limits of a conversation created without any."""
    hidden_ttl_seconds: float | None = None
    """After so long hidden conversations go that have no time to live of their own;
    nobody could find them to delete them."""


class StoredConversationService:
    """The `ConversationService` on a `ConversationStore`."""

    def __init__(
        self,
        store: ConversationStore,
        *,
        defaults: ConversationDefaults | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        client_roles: Collection[Role] = frozenset(Role),
        redact: Redact | None = None,
    ) -> None:
        """Serve from a store.

        Args:
            store: Where conversations are kept.
            defaults: What holds where a call says nothing.
            max_message_bytes: Of one message, as it is stored.
            client_roles: Whose words may be added or imported through this service;
                turns enter by their tasks and are not asked.
            redact: Takes out of each message what must not be stored.
        """
        self._store = store
        self._defaults = defaults or ConversationDefaults()
        self._max_message_bytes = max_message_bytes
        self._client_roles = frozenset(client_roles)
        self._redact = redact
        self._hidden_config = ConversationConfig(
            ttl_seconds=self._defaults.hidden_ttl_seconds
        )

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
        conversation = admit_conversation(
            conversation_id,
            config=self._defaults.config if config is None else config,
            metadata=self._metadata({} if metadata is None else metadata),
            tenant=self._owner(tenant),
            hidden=hidden,
        )
        if hidden and conversation.config.ttl_seconds is None:
            ttl = {"ttl_seconds": self._hidden_config.ttl_seconds}
            config = conversation.config.model_copy(update=ttl)
            conversation = conversation.model_copy(update={"config": config})
        first = without_repeats(self._all_admitted(messages))
        check_places(first)
        return await self._store.create(conversation, messages=[*first.values()])

    async def get(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> Conversation:
        tenant = self._owner(tenant, conversation_id)
        return await self._store.get(tenant, conversation_id)

    async def list(
        self,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        tenant: str | None = None,
    ) -> ConversationPage:
        tenant = self._owner(tenant)
        check_page(limit)
        check_cursor(cursor)
        return await self._store.list(
            tenant,
            metadata=self._metadata({} if metadata is None else metadata),
            limit=limit,
            cursor=cursor,
        )

    async def update_metadata(
        self,
        conversation_id: str,
        metadata: Mapping[str, JsonValue],
        *,
        tenant: str | None = None,
    ) -> Conversation:
        tenant = self._owner(tenant, conversation_id)
        return await self._store.update_metadata(
            tenant, conversation_id, self._metadata(metadata)
        )

    async def add_message(
        self,
        conversation_id: str,
        message: MessageInput,
        *,
        expected_last_seq: int | None = None,
        tenant: str | None = None,
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
        tenant: str | None = None,
    ) -> tuple[StoredMessage, ...]:
        tenant = self._owner(tenant, conversation_id)
        if expected_last_seq is not None:
            check_seq(expected_last_seq, field="expected_last_seq")
        return await self._store.append(
            tenant,
            conversation_id,
            self._all_admitted(messages),
            expected_last_seq=expected_last_seq,
        )

    async def get_messages(
        self,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
        tenant: str | None = None,
    ) -> tuple[StoredMessage, ...]:
        tenant = self._owner(tenant, conversation_id)
        check_page(limit, before=before, after=after)
        return await self._store.read(
            tenant, conversation_id, limit=limit, before=before, after=after
        )

    async def get_message(
        self, conversation_id: str, seq: int, *, tenant: str | None = None
    ) -> StoredMessage:
        tenant = self._owner(tenant, conversation_id)
        check_seq(seq)
        found = await self._store.read(
            tenant, conversation_id, limit=1, after=max(0, seq - 1), before=seq + 1
        )
        if not found:
            raise MessageNotFound(conversation_id, f"message {seq}")
        return found[0]

    async def get_turn(
        self, conversation_id: str, turn: str, *, tenant: str | None = None
    ) -> tuple[StoredMessage, ...]:
        tenant = self._owner(tenant, conversation_id)
        check_turn(turn)
        found = await self._store.read_turn(tenant, conversation_id, turn)
        if not found:
            raise MessageNotFound(conversation_id, f"turn {turn!r}")
        return found

    async def delete_message(
        self, conversation_id: str, seq: int, *, tenant: str | None = None
    ) -> Conversation:
        tenant = self._owner(tenant, conversation_id)
        check_seq(seq)
        return await self._store.delete_message(tenant, conversation_id, seq)

    async def window(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> tuple[Message, ...]:
        return (await self.view(conversation_id, tenant=tenant)).messages()

    async def view(
        self,
        conversation_id: str,
        *,
        tenant: str | None = None,
        read: WindowRead | None = None,
    ) -> ConversationView:
        tenant = self._owner(tenant, conversation_id)
        return await read_view(self._store, tenant, conversation_id, read=read)

    async def fork(
        self,
        conversation_id: str,
        *,
        at: int | None = None,
        new_id: str | None = None,
        hidden: bool = False,
        tenant: str | None = None,
    ) -> Conversation:
        tenant = self._owner(tenant, conversation_id)
        if at is not None:
            check_seq(at, field="at")
        config = self._hidden_config if hidden else ConversationConfig()
        copy = admit_conversation(new_id, tenant=tenant, config=config, hidden=hidden)
        return await self._store.fork(tenant, conversation_id, copy, at=at)

    async def branch(
        self, conversation_id: str, *, at: int, tenant: str | None = None
    ) -> Conversation:
        tenant = self._owner(tenant, conversation_id)
        check_seq(at, field="at")
        copy = admit_conversation(
            None, tenant=tenant, config=self._hidden_config, hidden=True
        )
        return await self._store.branch(tenant, conversation_id, copy, at=at)

    def export_lines(
        self, conversation_id: str, *, tenant: str | None = None
    ) -> AsyncIterator[str]:
        tenant = self._owner(tenant, conversation_id)
        return transcript_lines(self._store, tenant, conversation_id)

    async def export(self, conversation_id: str, *, tenant: str | None = None) -> str:
        lines = self.export_lines(conversation_id, tenant=tenant)
        return "".join([line async for line in lines])

    async def import_lines(
        self,
        lines: Iterable[str],
        *,
        conversation_id: str | None = None,
        tenant: str | None = None,
    ) -> Conversation:
        numbered = numbered_lines(lines)
        transcript = TranscriptReader(*next(numbered, (1, "")))
        head, history = transcript.head, []
        for number, line in numbered:
            if (stored := transcript.take(line, number)) is not None:
                message = self._admitted(stored.message, field=f"line {number}")
                history.append(stored.model_copy(update={"message": message}))
            if number % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
        transcript.check_whole()
        conversation = admit_conversation(
            head.id if conversation_id is None else conversation_id,
            config=head.config,
            metadata=self._metadata(head.metadata),
            tenant=self._owner(tenant),
        ).model_copy(update={"last_seq": transcript.last_seq})
        return await self._store.create(conversation, history=tuple(history))

    async def import_(
        self,
        transcript: str,
        *,
        conversation_id: str | None = None,
        tenant: str | None = None,
    ) -> Conversation:
        return await self.import_lines(
            lines_of(transcript),
            conversation_id=conversation_id,
            tenant=tenant,
        )

    async def delete(
        self, conversation_id: str, *, at: int | None = None, tenant: str | None = None
    ) -> bool:
        tenant = self._owner(tenant, conversation_id)
        if at is not None:
            check_seq(at, field="at")
        return await self._store.delete(tenant, conversation_id, at=at)

    def _owner(self, tenant: str | None, conversation_id: str = "any") -> str:
        """Whose conversation a call means; checks tenant and id."""
        owner = self._defaults.tenant if tenant is None else tenant
        check_address(owner, conversation_id)
        return owner

    def _all_admitted(self, messages: Sequence[MessageInput]) -> tuple[Message, ...]:
        check_batch(messages)
        return tuple(
            self._admitted(message, field=f"messages[{place}]")
            for place, message in enumerate(messages)
        )

    def _admitted(self, message: MessageInput, *, field: str) -> Message:
        admitted = admit_message(
            message, field=field, max_bytes=self._max_message_bytes
        )
        if admitted.role not in self._client_roles:
            raise RoleForbidden(field, admitted.role, self._client_roles)
        return redacted(admitted, self._redact)

    def _metadata(self, metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        return admit_metadata(metadata, max_bytes=self._max_message_bytes)
