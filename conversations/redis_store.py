"""Conversations in Redis. `docs/redis-keys.md` tells the keys, `lua/` the changes.

Needs Redis 6.2. Every change is one script that begins with a write which a full Redis
refuses, except the delete, which begins by freeing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from secrets import token_hex
from typing import Any

from pydantic import JsonValue
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from conversations.admission import MAX_PAGE, history_up_to, not_kept
from conversations.append_script import (
    APPEND_FUNCTIONS,
    WINDOW_FUNCTIONS,
    ConversationKeys,
    append_arguments,
    append_error,
    append_keys,
    conversation_prefix,
    index_key,
    place_error,
    read_lua,
)
from conversations.conversation import Conversation, ConversationConfig
from conversations.errors import (
    ConversationNotFound,
    ConversationStoreUnavailable,
    InvalidHistory,
    MessageNotFound,
    creation_refused,
)
from conversations.history import open_after
from conversations.json_value import NotStorable, dumps
from conversations.message import Message, Role, StoredMessage
from conversations.record import write_limits
from conversations.redis_errors import store_errors
from conversations.script_values import (
    creation_arguments,
    history_pieces,
    message_arguments,
    read_head,
    read_messages,
    read_window,
    text_of,
)
from conversations.store import ConversationPage, WindowRead

TOMBSTONE_SECONDS = 86_400
"""A day: longer than any writer that still believes in the conversation lives."""
FILTER_BATCH = 200
"""Heads fetched at a time while looking for metadata."""
UNFINISHED_MS = 3_600_000
"""An import that was broken off leaves nothing behind after an hour."""
Execute = Callable[[Sequence[Sequence[str | int]]], Awaitable[list[Any]]]
"""Sends commands and returns their answers; what Redis refused is its exception."""
PIECE_BYTES = 1024 * 1024
"""Of messages that are read at once: Redis does nothing else meanwhile."""
FORK_PAGE = 10
"""Messages read at first around the end of a fork, ten times as many with each page."""


@cache  # 14 kB each, and a worker has two stores
def _composed(name: str) -> str:
    if name in ("list", "delete"):
        return read_lua(name)
    if name == "read_window":
        return APPEND_FUNCTIONS + WINDOW_FUNCTIONS + read_lua(name)
    return read_lua("clock") + APPEND_FUNCTIONS + read_lua(name)


class RedisConversationStore:
    """A `ConversationStore` on one Redis server."""

    def __init__(
        self,
        client: Redis,
        *,
        execute: Execute | None = None,
        awaited_key: Callable[[str, str], str] | None = None,
    ) -> None:
        """Use the client; it stays the caller's to close.

        Args:
            client: Sends whatever nothing else is said of.
            execute: Sends what every run reads, and what begins an empty conversation,
                together with what others send.
            awaited_key: The key that exists while a conversation of a tenant has
                unfinished turns, whose conversation a delete finds before it is stored.
        """
        self._client = client
        self._awaited_key = awaited_key
        self._execute = execute
        self._append = client.register_script(_composed("append"))
        self._create = client.register_script(_composed("create"))
        self._update = client.register_script(_composed("update_metadata"))
        self._read = client.register_script(_composed("read"))
        self._read_window = client.register_script(_composed("read_window"))
        self._load_piece = client.register_script(_composed("load"))
        self._fork = client.register_script(_composed("fork"))
        self._delete_message = client.register_script(_composed("delete_message"))
        self._read_turn = client.register_script(_composed("read_turn"))
        self._list = client.register_script(_composed("list"))
        self._delete = client.register_script(_composed("delete"))

    async def create(
        self,
        conversation: Conversation,
        *,
        history: Sequence[StoredMessage] = (),
        messages: Sequence[Message] = (),
    ) -> Conversation:
        tenant, conversation_id = conversation.tenant, conversation.id
        keys: list[str] = [*append_keys(tenant, conversation_id)]
        arguments = creation_arguments(conversation, history, messages)
        with store_errors():
            pieces = history_pieces(history)
            first, second = next(pieces, None), next(pieces, None)
            if first and second:
                keys += await self._load(conversation, chain((first, second), pieces))
            else:
                arguments += first or message_arguments(messages)
            if history or messages:
                outcome, *answer = await self._create(keys=keys, args=arguments)
            else:
                outcome, *answer = await self._together(self._create, keys, arguments)
        return _created(tenant, conversation_id, text_of(outcome), answer)

    async def _load(
        self, conversation: Conversation, pieces: Iterable[list[str | int]]
    ) -> ConversationKeys:
        """Bring a long history to the server; return where it stands."""
        key = append_keys(conversation.tenant, conversation.id)
        aside = ConversationKeys(*(f"{each}:_{token_hex(8)}" for each in key))
        for piece in pieces:
            await self._load_piece(keys=aside, args=[UNFINISHED_MS, *piece])
        return aside

    async def fork(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int | None
    ) -> Conversation:
        return await self._branch(tenant, conversation_id, copy, at=at, in_place="")

    async def branch(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int
    ) -> Conversation:
        return await self._branch(tenant, conversation_id, copy, at=at, in_place="1")

    async def _branch(
        self,
        tenant: str,
        conversation_id: str,
        copy: Conversation,
        *,
        at: int | None,
        in_place: str,
    ) -> Conversation:
        keys = _keys(tenant, conversation_id)
        bounds: list[str | int] = ["", ""]
        if at is not None:
            bounds = await self._fork_bounds(tenant, conversation_id, at)
        hidden = "1" if copy.hidden else ""
        ttl_ms = write_limits(copy.config)[2]
        ttl = "" if copy.config.ttl_seconds is None else repr(copy.config.ttl_seconds)
        last = "" if at is None else at
        with store_errors():
            outcome, *answer = await self._fork(
                keys=[*keys, *append_keys(tenant, copy.id)],
                args=[token_hex(8), last, hidden, ttl_ms, ttl, in_place, *bounds],
            )
        if text_of(outcome) == "not_found":
            raise ConversationNotFound(conversation_id)
        if text_of(outcome) == "gone":
            raise InvalidHistory(not_kept(at))
        if text_of(outcome) == "same":
            return read_head(tenant, conversation_id, answer[0])
        return _created(tenant, copy.id, text_of(outcome), answer)

    async def _fork_bounds(
        self, tenant: str, conversation_id: str, at: int
    ) -> list[str | int]:
        """What the head says of a history that ends at a message in the middle."""
        tail: tuple[StoredMessage, ...] = ()
        before, limit = at + 2, FORK_PAGE
        roles: set[Role] = set()
        while Role.USER not in roles:
            page = await self.read(tenant, conversation_id, limit=limit, before=before)
            older = page if tail else history_up_to(page, at)
            if not older:
                break
            tail = (*older, *tail)
            roles |= {stored.message.role for stored in older}
            before, limit = older[0].seq, min(MAX_PAGE, limit * 10)
        users = [each.seq for each in tail if each.message.role is Role.USER]
        calls = sorted(open_after([stored.message for stored in tail]))
        return [users[-1] if users else 0, len(calls), *calls]

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        keys = _keys(tenant, conversation_id)
        with store_errors():
            fields = await self._client.hgetall(keys.head)
        if not fields:
            raise ConversationNotFound(conversation_id)
        flat = [part for pair in fields.items() for part in pair]
        return read_head(tenant, conversation_id, flat)

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
        found: list[Any] = []
        while below and len(found) < limit:
            with store_errors():
                rows, place = await self._list(
                    keys=(index_key(tenant),),
                    args=(conversation_prefix(tenant), limit - len(found), below),
                )
            found += rows
            below = text_of(place)
        return [
            (text_of(place), read_head(tenant, text_of(name), head))
            for place, name, head in found
        ]

    async def update_metadata(
        self, tenant: str, conversation_id: str, metadata: Mapping[str, JsonValue]
    ) -> Conversation:
        keys = _keys(tenant, conversation_id)
        with store_errors():
            head = await self._update(keys=keys, args=(dumps(dict(metadata)),))
        if head is None:
            raise ConversationNotFound(conversation_id)
        return read_head(tenant, conversation_id, head)

    async def delete(
        self, tenant: str, conversation_id: str, *, at: int | None = None
    ) -> bool:
        try:
            keys: list[str] = [*_keys(tenant, conversation_id)]
        except ConversationNotFound:
            return False
        if self._awaited_key is not None:
            keys.append(self._awaited_key(tenant, conversation_id))
        last = "" if at is None else at
        arguments = (token_hex(8), TOMBSTONE_SECONDS, last)
        with store_errors():
            return bool(await self._delete(keys=keys, args=arguments))

    async def delete_message(
        self, tenant: str, conversation_id: str, seq: int
    ) -> Conversation:
        keys = _keys(tenant, conversation_id)
        with store_errors():
            outcome, *answer = await self._delete_message(
                keys=keys, args=(token_hex(8), seq)
            )
        if text_of(outcome) == "not_found":
            raise ConversationNotFound(conversation_id)
        if text_of(outcome) == "no_message":
            raise MessageNotFound(conversation_id, f"message {seq}")
        return read_head(tenant, conversation_id, answer[0])

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
        with store_errors():
            outcome, *answer = await self._append(keys=keys, args=arguments)
        refusal = text_of(outcome)
        if refusal != "ok":
            raise place_error(refusal, messages, *answer) or append_error(
                refusal, conversation_id, expected_last_seq=expected_last_seq
            )
        return read_messages(answer[0])

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
        parts: list[tuple[StoredMessage, ...]] = []
        is_cut = True
        while is_cut and limit > 0:
            bounds = ["" if bound is None else bound for bound in (before, after)]
            with store_errors():
                answer = await self._read(
                    keys=(keys.head, keys.log), args=(limit, *bounds, PIECE_BYTES)
                )
            if answer is None:
                raise ConversationNotFound(conversation_id)
            part, is_cut = read_messages(answer[1]), bool(answer[0])
            limit -= len(part)
            if after is not None:
                parts.append(part)
                after = part[-1].seq if part else after
            else:
                parts.insert(0, part)
                before = part[0].seq if part else before
        return tuple(chain.from_iterable(parts))

    async def read_turn(
        self, tenant: str, conversation_id: str, turn: str
    ) -> tuple[StoredMessage, ...]:
        keys = _keys(tenant, conversation_id)
        with store_errors():
            rows = await self._read_turn(keys=keys, args=(turn,))
        if rows is None:
            raise ConversationNotFound(conversation_id)
        return read_messages(rows)

    async def read_window(self, tenant: str, conversation_id: str) -> WindowRead:
        keys = _keys(tenant, conversation_id)
        with store_errors():
            answer = await self._together(self._read_window, keys)
        found = read_window(tenant, conversation_id, answer)
        if found is None:
            raise ConversationNotFound(conversation_id)
        return found

    async def _together(
        self, script: AsyncScript, keys: Sequence[str], args: Sequence[str | int] = ()
    ) -> Any:
        """Call a script along with what others send, where that can be done."""
        if self._execute is not None:
            command = ["EVALSHA", script.sha, len(keys), *keys, *args]
            (answer,) = await self._execute([command])
            if not isinstance(answer, Exception):
                return answer
            if not isinstance(answer, NoScriptError):
                raise answer
        return await script(keys=keys, args=args)


def _keys(tenant: str, conversation_id: str) -> ConversationKeys:
    try:
        return append_keys(tenant, conversation_id)
    except NotStorable:
        raise ConversationNotFound(conversation_id) from None


def _created(
    tenant: str, conversation_id: str, outcome: str, answer: Sequence[Any]
) -> Conversation:
    if outcome == "lost":
        raise ConversationStoreUnavailable(
            "the conversation store has lost a part of the history that it was brought;"
            " bring it again"
        )
    if outcome != "ok":
        raise creation_refused(conversation_id, deleted=outcome == "deleted")
    return read_head(tenant, conversation_id, answer[0])
