"""Conversations in the memory of one process, for tests and small deployments.

Keeps messages as the JSON text that Redis would keep, so that nothing which was handed
in or out can change what is stored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from conversations.admission import history_up_to
from conversations.append_script import append_error
from conversations.conversation import (
    Conversation,
    ConversationConfig,
    is_hidden_id,
)
from conversations.errors import (
    ConversationNotFound,
    MessageNotFound,
    creation_refused,
)
from conversations.history import check_places
from conversations.memory_log import MemoryConversation
from conversations.message import Message, StoredMessage
from conversations.record import Numbers, from_ms, numbers_of, to_ms
from conversations.store import ConversationPage, WindowRead

TOMBSTONE = timedelta(days=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class InMemoryConversationStore:
    """A `ConversationStore` without I/O; safe for threads."""

    def __init__(
        self,
        *,
        lock: threading.RLock | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Guard everything by `lock`, which another store may share."""
        self.lock = threading.RLock() if lock is None else lock
        self._clock = clock
        self._records: dict[tuple[str, str], MemoryConversation] = {}
        self._tombstones: dict[tuple[str, str], datetime] = {}
        self._created = 0
        self.is_awaited: Callable[[str, str], bool] = lambda *_: False
        """Whether a tenant's conversation has unfinished turns; called under `lock`."""

    async def create(
        self,
        conversation: Conversation,
        *,
        history: Sequence[StoredMessage] = (),
        messages: Sequence[Message] = (),
    ) -> Conversation:
        key = conversation.tenant, conversation.id
        with self.lock:
            if self._is_deleted(key) or self._find(key) is not None:
                deleted = self._is_deleted(key)
                raise creation_refused(conversation.id, deleted=deleted)
            record = self._new(conversation)
            if history or not messages:
                record.load(history, numbers_of(conversation, history))
            else:
                record.extend(
                    messages, turn=None, now=record.head.created_at or self._now()
                )
            self._records[key] = record
            return record.head.model_copy(deep=True)

    async def fork(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int | None
    ) -> Conversation:
        with self.lock:
            source = self._get(tenant, conversation_id)
            history = tuple(entry.stored() for entry in source.log)
            last, dropped = source.head.last_seq, source.head.dropped_messages
            if at is not None:
                history, last = history_up_to(history, at), at
            config = source.head.config
            if config.ttl_seconds is None:
                ttl = {"ttl_seconds": copy.config.ttl_seconds}
                config = config.model_copy(update=ttl)
            taken = {"config": config, "metadata": source.head.metadata}
            copy = copy.model_copy(update=taken)
            key = tenant, copy.id
            if self._is_deleted(key) or self._find(key) is not None:
                raise creation_refused(copy.id, deleted=self._is_deleted(key))
            record = self._new(copy)
            record.load(history, Numbers(last, dropped, last - dropped - len(history)))
            self._records[key] = record
            return record.head.model_copy(deep=True)

    async def branch(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int
    ) -> Conversation:
        with self.lock:
            source = self._get(tenant, conversation_id)
            ends = bool(source.log) and source.log[-1].seq == at
            if source.head.hidden and ends and source.branched_at != at:
                source.branched_at = at
                changes = {"updated_at": self._now()}
                source.head = source.head.model_copy(update=changes)
                return source.head.model_copy(deep=True)
            return await self.fork(tenant, conversation_id, copy, at=at)

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        with self.lock:
            return self._get(tenant, conversation_id).head.model_copy(deep=True)

    async def list(
        self,
        tenant: str,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ConversationPage:
        with self.lock:
            records = [self._find(key) for key in reversed(self._records.copy())]
            found = [
                record
                for record in records
                if record is not None
                and record.head.tenant == tenant
                and not record.head.hidden
                and (cursor is None or record.place < int(cursor))
                and record.head.has_metadata(metadata or {})
            ]
            page = found[:limit]
            return ConversationPage(
                tuple(record.head.model_copy(deep=True) for record in page),
                str(page[-1].place) if len(found) > limit else None,
            )

    async def update_metadata(
        self, tenant: str, conversation_id: str, metadata: Mapping[str, JsonValue]
    ) -> Conversation:
        with self.lock:
            record = self._get(tenant, conversation_id)
            changes = {"metadata": dict(metadata), "updated_at": self._now()}
            record.head = record.head.model_copy(update=changes).model_copy(deep=True)
            return record.head.model_copy(deep=True)

    async def delete(
        self, tenant: str, conversation_id: str, *, at: int | None = None
    ) -> bool:
        key = tenant, conversation_id
        with self.lock:
            found, is_awaited = self._find(key), self.is_awaited(*key)
            if at is not None:
                if found is None or found.head.last_seq != at or is_awaited:
                    return False
            elif found is None and (self._is_deleted(key) or not is_awaited):
                return False
            self._records.pop(key, None)
            self._tombstones[key] = self._clock() + TOMBSTONE
            return True

    def purge(self) -> None:
        """Forget conversations and tombstones whose time is over."""
        with self.lock:
            for key in [*self._records]:
                self._find(key)
            for key in [*self._tombstones]:
                self._is_deleted(key)

    async def delete_message(
        self, tenant: str, conversation_id: str, seq: int
    ) -> Conversation:
        with self.lock:
            record = self._get(tenant, conversation_id)
            if not record.remove(seq, now=self._now()):
                raise MessageNotFound(conversation_id, f"message {seq}")
            return record.head.model_copy(deep=True)

    def is_deleted(self, tenant: str, conversation_id: str) -> bool:
        """Tell whether it was deleted within a day, for a caller's own change."""
        with self.lock:
            return self._is_deleted((tenant, conversation_id))

    def use(self, tenant: str, conversation_id: str) -> ConversationConfig | None:
        """Put its end off without a change; return its limits."""
        with self.lock:
            record = self._find((tenant, conversation_id))
            if record is None:
                return None
            record.used_at = self._now()
            return record.head.config

    def find_config(
        self, tenant: str, conversation_id: str
    ) -> ConversationConfig | None:
        """The limits of a conversation, as a step of a caller's own change."""
        with self.lock:
            record = self._find((tenant, conversation_id))
            return record.head.config if record else None

    async def append(
        self,
        tenant: str,
        conversation_id: str,
        messages: Sequence[Message],
        *,
        turn: str | None = None,
        expected_last_seq: int | None = None,
        create_with: ConversationConfig | None = None,
    ) -> tuple[StoredMessage, ...]:
        return self.append_now(
            tenant,
            conversation_id,
            messages,
            turn=turn,
            expected_last_seq=expected_last_seq,
            create_with=create_with,
        )

    def append_now(
        self,
        tenant: str,
        conversation_id: str,
        messages: Sequence[Message],
        *,
        turn: str | None,
        expected_last_seq: int | None = None,
        create_with: ConversationConfig | None = None,
    ) -> tuple[StoredMessage, ...]:
        """Append as a step of a caller's own change, under the shared `lock`."""
        key = tenant, conversation_id
        with self.lock:
            record = self._find(key)
            if record is None and create_with is not None and not self._is_deleted(key):
                record = self._new(
                    Conversation(
                        id=conversation_id,
                        tenant=tenant,
                        config=create_with,
                        hidden=is_hidden_id(conversation_id),
                    )
                )
            if record is None:
                raise ConversationNotFound(conversation_id)
            if turn is not None and turn in record.turns:
                return record.turn_entries(turn)
            fresh = record.unknown(messages)
            if fresh and expected_last_seq not in (None, record.head.last_seq):
                raise append_error(
                    "conflict", conversation_id, expected_last_seq=expected_last_seq
                )
            if turn is None:
                check_places(fresh, record.open_calls)
            self._records[key] = record
            return record.extend(messages, turn=turn, now=self._now())

    async def read(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> tuple[StoredMessage, ...]:
        with self.lock:
            record = self._get(tenant, conversation_id)
            log = record.log
            stop = len(log) if before is None else record.index(before)
            if after is None:
                start = max(0, stop - limit)
            else:
                start = record.index(after + 1)
                stop = min(stop, start + limit)
            return tuple(entry.stored() for entry in log[start:stop])

    async def read_turn(
        self, tenant: str, conversation_id: str, turn: str
    ) -> tuple[StoredMessage, ...]:
        with self.lock:
            record = self._get(tenant, conversation_id)
            return record.turn_entries(turn) if turn in record.turns else ()

    async def read_window(self, tenant: str, conversation_id: str) -> WindowRead:
        found = self.find_window(tenant, conversation_id)
        if found is None:
            raise ConversationNotFound(conversation_id)
        return found

    def find_window(self, tenant: str, conversation_id: str) -> WindowRead | None:
        """Read a window as a step of a caller's own change; None without any."""
        with self.lock:
            record = self._find((tenant, conversation_id))
            if record is None:
                return None
            start = record.window_start()
            earlier = [
                entry
                for entry in record.log[:start]
                if entry.kind == "kept"
                or entry.seq in (record.user_seq, record.summary_seq)
            ]
            shown = tuple(entry.stored() for entry in earlier + record.log[start:])
            return WindowRead(record.head.model_copy(deep=True), shown)

    def _now(self) -> datetime:
        return from_ms(to_ms(self._clock()))

    def _new(self, conversation: Conversation) -> MemoryConversation:
        now = self._now()
        changes = {
            "created_at": now,
            "updated_at": now,
            "last_seq": 0,
            "dropped_messages": 0,
            "deleted_messages": 0,
        }
        self._created += 1
        head = conversation.model_copy(update=changes).model_copy(deep=True)
        return MemoryConversation(head, self._created)

    def _find(self, key: tuple[str, str]) -> MemoryConversation | None:
        record = self._records.get(key)
        expires_at = record.expires_at() if record else None
        if expires_at is not None and expires_at <= self._clock():
            del self._records[key]
            return None
        return record

    def _get(self, tenant: str, conversation_id: str) -> MemoryConversation:
        record = self._find((tenant, conversation_id))
        if record is None:
            raise ConversationNotFound(conversation_id)
        return record

    def _is_deleted(self, key: tuple[str, str]) -> bool:
        until = self._tombstones.get(key)
        if until is not None and until <= self._clock():
            del self._tombstones[key]
            return False
        return until is not None
