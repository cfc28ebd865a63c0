"""Conversations in Redis. `docs/redis-keys.md` tells the keys, `lua/` the changes.

Needs Redis 6.2. Every change is one script that begins with a write which a full Redis
refuses, except the delete, which begins by freeing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

from pydantic import JsonValue
from redis.asyncio import Redis
from redis.exceptions import RedisError

from conversations.admission import history_up_to, not_kept
from conversations.append_script import (
    APPEND_FUNCTIONS,
    ConversationKeys,
    append_arguments,
    append_error,
    append_keys,
    conversation_prefix,
    index_key,
    kind_of,
    read_lua,
)
from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import (
    ConversationNotFound,
    ConversationStoreUnavailable,
    InvalidHistory,
    creation_refused,
)
from conversations.history import OpenCalls, open_after, starts_unit
from conversations.json_value import NotStorable, dumps
from conversations.message import Message, Role, StoredMessage
from conversations.record import (
    from_ms,
    read_stored,
    to_ms,
    write_limits,
    write_message,
)
from conversations.store import ConversationPage

TOMBSTONE_SECONDS = 86_400
"""A day: longer than any writer that still believes in the conversation lives."""
REFUSALS = {
    "maxmemory": "is out of memory",
    "read only replica": "is a read-only replica",
    "unable to persist": "cannot write to its disk",
    "writing to the AOF": "cannot write to its disk",
}
"""Words by which Redis, also from within a script, says why it refuses a write."""
FILTER_BATCH = 200
"""Heads fetched at a time while looking for metadata."""
PIECE = 500
"""Messages of a history that one script writes: some milliseconds of Redis' time."""
FIELDS_PER_MESSAGE = 8
UNFINISHED_MS = 3_600_000
"""An import that was broken off leaves nothing behind after an hour."""
FORK_PAGE = 200
"""Messages read at a time around the end of a fork."""


class RedisConversationStore:
    """A `ConversationStore` on one Redis server."""

    def __init__(self, client: Redis) -> None:
        """Use the client; it stays the caller's to close."""
        self._client = client
        functions = read_lua("clock") + APPEND_FUNCTIONS
        self._append = client.register_script(functions + read_lua("append"))
        self._create = client.register_script(functions + read_lua("create"))
        self._update = client.register_script(functions + read_lua("update_metadata"))
        self._read = client.register_script(functions + read_lua("read"))
        self._read_window = client.register_script(functions + read_lua("read_window"))
        self._load_piece = client.register_script(functions + read_lua("load"))
        self._fork = client.register_script(functions + read_lua("fork"))
        self._list = client.register_script(read_lua("list"))
        self._delete = client.register_script(read_lua("delete"))

    async def create(
        self, conversation: Conversation, *, history: Sequence[StoredMessage] = ()
    ) -> Conversation:
        tenant, conversation_id = conversation.tenant, conversation.id
        keys: list[str] = [*append_keys(tenant, conversation_id)]
        arguments = _creation_arguments(conversation, history)
        with _store_errors():
            if len(history) > PIECE:
                keys += await self._load(conversation, history)
            else:
                arguments += _history_arguments(history)
            outcome, *answer = await self._create(keys=keys, args=arguments)
        return _created(tenant, conversation_id, _text(outcome), answer)

    async def _load(
        self, conversation: Conversation, history: Sequence[StoredMessage]
    ) -> ConversationKeys:
        """Bring a long history to the server in pieces; return where it stands."""
        key = append_keys(conversation.tenant, conversation.id)
        aside = ConversationKeys(*(f"{each}:_{token_hex(8)}" for each in key))
        arguments = _history_arguments(history)
        for start in range(0, len(arguments), PIECE * FIELDS_PER_MESSAGE):
            piece = arguments[start : start + PIECE * FIELDS_PER_MESSAGE]
            await self._load_piece(keys=aside, args=[UNFINISHED_MS, *piece])
        return aside

    async def fork(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int | None
    ) -> Conversation:
        keys = _keys(tenant, conversation_id)
        bounds: list[str | int] = ["", "", ""]
        if at is not None:
            bounds = await self._fork_bounds(tenant, conversation_id, at)
        with _store_errors():
            outcome, *answer = await self._fork(
                keys=[*keys, *append_keys(tenant, copy.id)],
                args=[token_hex(8), *bounds],
            )
        if _text(outcome) == "not_found":
            raise ConversationNotFound(conversation_id)
        if _text(outcome) == "gone":
            raise InvalidHistory(not_kept(at))
        return _created(tenant, copy.id, _text(outcome), answer)

    async def _fork_bounds(
        self, tenant: str, conversation_id: str, at: int
    ) -> list[str | int]:
        """What the head says of a history that ends at a message in the middle."""
        before, user_seq = at + 2, 0
        open_calls: OpenCalls | None = None
        while user_seq == 0:
            page = await self.read(
                tenant, conversation_id, limit=FORK_PAGE, before=before
            )
            if open_calls is None:
                page = history_up_to(page, at)
                open_calls = open_after([stored.message for stored in page])
            seqs = [each.seq for each in page if each.message.role is Role.USER]
            user_seq = seqs[-1] if seqs else 0
            if not page or page[0].seq == 1:
                break
            before = page[0].seq
        calls = sorted(open_calls or ())
        return [at, user_seq, len(calls), *calls]

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        keys = _keys(tenant, conversation_id)
        with _store_errors():
            fields = await self._client.hgetall(keys.head)
        if not fields:
            raise ConversationNotFound(conversation_id)
        flat = [part for pair in fields.items() for part in pair]
        return _conversation(tenant, conversation_id, flat)

    async def list(
        self,
        tenant: str,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ConversationPage:
        wanted = metadata or {}
        batch = max(FILTER_BATCH, limit + 1) if wanted else limit + 1
        found: list[tuple[str, Conversation]] = []
        below = cursor or "inf"
        while len(found) <= limit:
            rows = await self._heads(tenant, below, batch)
            found += [row for row in rows if row[1].has_metadata(wanted)]
            if len(rows) < batch:
                break
            below = rows[-1][0]
        page = found[:limit]
        return ConversationPage(
            conversations=tuple(conversation for _, conversation in page),
            next_cursor=page[-1][0] if len(found) > limit else None,
        )

    async def _heads(
        self, tenant: str, below: str, limit: int
    ) -> Sequence[tuple[str, Conversation]]:
        with _store_errors():
            rows = await self._list(
                keys=(index_key(tenant),),
                args=(conversation_prefix(tenant), limit, below),
            )
        return [
            (_text(place), _conversation(tenant, _text(name), head))
            for place, name, head in rows
        ]

    async def update_metadata(
        self, tenant: str, conversation_id: str, metadata: Mapping[str, JsonValue]
    ) -> Conversation:
        keys = _keys(tenant, conversation_id)
        with _store_errors():
            head = await self._update(keys=keys, args=(dumps(dict(metadata)),))
        if head is None:
            raise ConversationNotFound(conversation_id)
        return _conversation(tenant, conversation_id, head)

    async def delete(self, tenant: str, conversation_id: str) -> bool:
        try:
            keys = _keys(tenant, conversation_id)
        except ConversationNotFound:
            return False
        with _store_errors():
            return bool(
                await self._delete(keys=keys, args=(token_hex(8), TOMBSTONE_SECONDS))
            )

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
        keys = _keys(tenant, conversation_id)
        arguments = append_arguments(
            messages,
            turn=turn,
            expected_last_seq=expected_last_seq,
            create_with=create_with,
        )
        with _store_errors():
            outcome, *answer = await self._append(keys=keys, args=arguments)
        if _text(outcome) != "ok":
            raise append_error(
                _text(outcome), conversation_id, expected_last_seq=expected_last_seq
            )
        return _messages(answer[0])

    async def read(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> tuple[StoredMessage, ...]:
        keys = _keys(tenant, conversation_id)
        bounds = ["" if bound is None else bound for bound in (before, after)]
        with _store_errors():
            rows = await self._read(keys=(keys.head, keys.log), args=(limit, *bounds))
        if rows is None:
            raise ConversationNotFound(conversation_id)
        return _messages(rows)

    async def read_window(
        self, tenant: str, conversation_id: str
    ) -> tuple[Conversation, tuple[StoredMessage, ...]]:
        keys = _keys(tenant, conversation_id)
        with _store_errors():
            answer = await self._read_window(keys=(keys.head, keys.log, keys.system))
        if answer is None:
            raise ConversationNotFound(conversation_id)
        head, rows = answer
        return _conversation(tenant, conversation_id, head), _messages(rows)


@contextmanager
def _store_errors() -> Iterator[None]:
    """Map the client's errors; their texts may hold an address, so they stay behind."""
    try:
        yield
    except RedisError as exc:
        reason = next(
            (reason for words, reason in REFUSALS.items() if words in str(exc)),
            "did not answer or refused",
        )
        raise ConversationStoreUnavailable(
            f"the conversation store {reason} ({type(exc).__name__});"
            " check that the configured Redis is reachable and accepts writes"
        ) from exc


def _keys(tenant: str, conversation_id: str) -> ConversationKeys:
    try:
        return append_keys(tenant, conversation_id)
    except NotStorable:
        raise ConversationNotFound(conversation_id) from None


def _created(
    tenant: str, conversation_id: str, outcome: str, answer: Sequence[Any]
) -> Conversation:
    if outcome != "ok":
        raise creation_refused(conversation_id, deleted=outcome == "deleted")
    return _conversation(tenant, conversation_id, answer[0])


def _creation_arguments(
    conversation: Conversation, history: Sequence[StoredMessage]
) -> list[str | int]:
    config, max_messages, ttl_ms = write_limits(conversation.config)
    open_calls = open_after([stored.message for stored in history])
    return [
        token_hex(8),
        config,
        dumps(conversation.metadata),
        max_messages,
        ttl_ms,
        history[-1].seq if history else 0,
        history[0].seq - 1 if history else 0,
        len(open_calls),
        *sorted(open_calls),
    ]


def _history_arguments(history: Sequence[StoredMessage]) -> list[str | int]:
    arguments: list[str | int] = []
    turn: str | None = None
    for stored in history:
        message, continues = stored.message, stored.turn == turn
        turn = stored.turn
        starts = starts_unit(message, turn=turn, continues_turn=continues)
        arguments += [
            stored.seq,
            turn or "",
            message.client_id or "",
            to_ms(stored.created_at),
            int(starts),
            message.role.value,
            kind_of(message),
            write_message(message),
        ]
    return arguments


def _conversation(
    tenant: str, conversation_id: str, flat: Sequence[Any]
) -> Conversation:
    parts = [_text(part) for part in flat]
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    return Conversation.model_validate_json(
        f'{{"id":"{conversation_id}","tenant":"{tenant}",'
        f'"config":{fields["config"]},"metadata":{fields["metadata"]},'
        f'"created_at":"{from_ms(int(fields["created_ms"])).isoformat()}",'
        f'"updated_at":"{from_ms(int(fields["updated_ms"])).isoformat()}",'
        f'"last_seq":{fields["last_seq"]},"dropped_messages":{fields["dropped"]}}}'
    )


def _messages(rows: Sequence[Sequence[Any]]) -> tuple[StoredMessage, ...]:
    return tuple(
        read_stored(int(seq), _text(turn), int(at), _text(body))
        for seq, turn, at, body in rows
    )


def _text(value: bytes | str) -> str:
    """Text of a reply, whether or not the client decodes replies."""
    return value.decode("utf-8") if isinstance(value, bytes) else value
