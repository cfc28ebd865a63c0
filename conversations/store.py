"""The contract of a conversation store; `redis_store` and `memory_store` fulfil it.

Every method names the tenant; another tenant's conversation is not found. Every
change is atomic and safe to repeat when its answer was lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from conversations.conversation import Conversation, ConversationConfig
from conversations.message import Message, StoredMessage


class ConversationPage(NamedTuple):
    """Some conversations, newest first, and where the next page starts."""

    conversations: tuple[Conversation, ...]
    next_cursor: str | None


class WindowRead(NamedTuple):
    """What a window is chosen from."""

    head: Conversation
    messages: tuple[StoredMessage, ...]


class ConversationStore(Protocol):
    """Keeps conversations and their append-only logs."""

    async def create(
        self,
        conversation: Conversation,
        *,
        history: Sequence[StoredMessage] = (),
        messages: Sequence[Message] = (),
    ) -> Conversation:
        """Store a new conversation; return it with the store's instants.

        A given history is stored with it: its sequence numbers, turns and instants
        are kept, and retention is applied. Numbers that are missing in it, and those
        beyond it up to the conversation's `last_seq`, count as deleted. Without a
        history, messages are its first ones, as if added by hand. The caller has
        checked that numbers rise, that turns stand together, that client ids are
        distinct and that `check_history` accepts it.

        Raises:
            ConversationConflict: the id is taken, or was deleted within a day.
        """
        ...

    async def fork(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int | None
    ) -> Conversation:
        """Store `copy` with the limits, metadata and history of another.

        Of its own it has what is hidden and, where the other has none, a time to live.
        The history ends at message `at`, or is all of it. Nothing that changes is
        shared. No message leaves the store, however long the history is.

        Raises:
            ConversationNotFound: none of this tenant has the id.
            ConversationConflict: the copy's id is taken, or was deleted within a day.
            InvalidHistory: `at` is not kept, or stands between a call and its results.
        """
        ...

    async def branch(
        self, tenant: str, conversation_id: str, copy: Conversation, *, at: int
    ) -> Conversation:
        """Return a hidden conversation whose history ends at message `at`.

        It is the same one for the first who asks while it is hidden itself and ends
        there; for all others it is a fork into `copy`. So a line of branches, each
        from the newest, costs no copies, and no two share what comes after `at`.

        Raises:
            as `fork`.
        """
        ...

    async def get(self, tenant: str, conversation_id: str) -> Conversation:
        """Return the head.

        Raises:
            ConversationNotFound: none of this tenant has the id.
        """
        ...

    async def list(
        self,
        tenant: str,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ConversationPage:
        """Return conversations whose metadata equals every given pair, newest first.

        Hidden ones are left out.
        """
        ...

    async def update_metadata(
        self, tenant: str, conversation_id: str, metadata: Mapping[str, JsonValue]
    ) -> Conversation:
        """Replace the metadata.

        Raises:
            ConversationNotFound: none of this tenant has the id.
        """
        ...

    async def delete(
        self, tenant: str, conversation_id: str, *, at: int | None = None
    ) -> bool:
        """Remove it and its messages; tell whether it was there or was to begin.

        With `at`, only while it ends at that message and has no unfinished turn, in one
        change: nobody who goes on in it meanwhile loses what it goes on from.

        A tombstone stays behind for a day, so that a late writer is refused
        rather than bringing the key back. A store that knows of unfinished turns
        leaves one also for a conversation whose first turn has not ended yet.
        """
        ...

    async def delete_message(
        self, tenant: str, conversation_id: str, seq: int
    ) -> Conversation:
        """Take a message out; return the head. Its number is not given out again.

        Tool calls and their results go together, whichever of them is named. A client
        id of a message that is gone may be used again.

        Raises:
            ConversationNotFound: none of this tenant has the id.
            MessageNotFound: the message is not kept.
        """
        ...

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
        """Append all messages with consecutive sequence numbers, or none.

        A message whose `client_id` is already in the log is returned as stored
        and not added again; so is a whole `turn` that is already there. Oldest
        whole turns beyond `max_messages` are dropped in the same step; the newest
        turn is always kept whole. With `create_with` an absent conversation is
        created with these limits. A turn is never refused for the tool calls that
        stand open before it, because it has happened.

        Raises:
            ConversationNotFound: absent (and not to be created) or deleted.
            ConversationConflict: the last sequence number is not the expected one.
            InvalidHistory: added by hand, a tool result without an open call, or
                another message while a call is open.
        """
        ...

    async def read(
        self,
        tenant: str,
        conversation_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
    ) -> tuple[StoredMessage, ...]:
        """Return messages in order of `seq`.

        With `after`: the first `limit` beyond it. Otherwise: the last `limit`
        below `before` (or of all). Costs what it returns, not the whole history.

        Raises:
            ConversationNotFound: none of this tenant has the id.
        """
        ...

    async def read_turn(
        self, tenant: str, conversation_id: str, turn: str
    ) -> tuple[StoredMessage, ...]:
        """Return the messages of a turn in order; none when it is not kept.

        Raises:
            ConversationNotFound: none of this tenant has the id.
        """
        ...

    async def read_window(self, tenant: str, conversation_id: str) -> WindowRead:
        """Return the head and what `visible_window` chooses from.

        These are the newest `context_window` messages and, before them, all system
        and pinned messages, the newest summary and the newest user message; of calls
        that await results the whole group. Costs what it returns.

        Raises:
            ConversationNotFound: none of this tenant has the id.
        """
        ...
