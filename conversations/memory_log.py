"""One conversation in memory: its head, its log and what repeats are known by."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from operator import attrgetter

from conversations.append_script import kind_of
from conversations.conversation import Conversation
from conversations.history import (
    OpenCalls,
    follow,
    open_after,
    starts_unit,
)
from conversations.message import Message, Role, StoredMessage
from conversations.record import Numbers, read_stored, to_ms, write_message


@dataclass(frozen=True)
class LogEntry:
    """A message in the log and what retention and repeats need to know of it."""

    seq: int
    turn: str | None
    at_ms: int
    starts_unit: bool
    kind: str
    client_id: str | None
    body: str

    def stored(self) -> StoredMessage:
        return read_stored(self.seq, self.turn or "", self.at_ms, self.body)


@dataclass
class MemoryConversation:
    """One conversation; numbers that are missing in `log` were deleted."""

    head: Conversation
    place: int
    """Its place in the order of creation."""
    log: list[LogEntry] = field(default_factory=list)
    clients: dict[str, int] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    open_calls: OpenCalls = frozenset()
    user_seq: int = 0
    summary_seq: int = 0
    used_at: datetime | None = None
    """When a turn was last begun on it."""
    branched_at: int | None = None
    """The message from which somebody went on in place."""

    def expires_at(self) -> datetime | None:
        ttl, touched = self.head.config.ttl_seconds, self.head.updated_at
        if ttl is None or touched is None:
            return None
        touched = max(touched, self.used_at or touched)
        return touched + timedelta(seconds=ttl)

    def unknown(self, messages: Sequence[Message]) -> dict[int, Message]:
        """Those whose client ids are not in the log, each once, by their places."""
        fresh: dict[int, Message] = {}
        added: set[str] = set()
        for place, message in enumerate(messages):
            client_id = message.client_id
            if client_id is None or (
                client_id not in added and client_id not in self.clients
            ):
                fresh[place] = message
                added.add(client_id or "")
        return fresh

    def index(self, seq: int) -> int:
        """Where a message stands, or the next one when it is gone."""
        return bisect_left(self.log, seq, key=attrgetter("seq"))

    def turn_entries(self, turn: str) -> tuple[StoredMessage, ...]:
        first = self.index(self.turns[turn])
        entries: list[StoredMessage] = []
        for entry in self.log[first:]:
            if entry.turn != turn:
                break
            entries.append(entry.stored())
        return tuple(entries)

    def extend(
        self, messages: Sequence[Message], *, turn: str | None, now: datetime
    ) -> tuple[StoredMessage, ...]:
        """Add what is unknown at the end; return every message as it is stored."""
        entries: list[LogEntry] = []
        first_seq = seq = self.head.last_seq
        for message in messages:
            known = self.clients.get(message.client_id or "")
            if known is not None:
                entries.append(self.log[self.index(known)])
                continue
            seq += 1
            continues = seq > first_seq + 1
            entries.append(
                self.add(message, seq, turn=turn, at=now, continues_turn=continues)
            )
        if seq > first_seq:
            changes = {"last_seq": seq, "updated_at": now}
            self.head = self.head.model_copy(update=changes)
            self.retain()
        return tuple(entry.stored() for entry in entries)

    def load(self, history: Sequence[StoredMessage], numbers: Numbers) -> None:
        """Take over the history of another conversation."""
        turn: str | None = None
        for stored in history:
            continues = stored.turn == turn
            turn = stored.turn
            self.add(
                stored.message,
                stored.seq,
                turn=turn,
                at=stored.created_at,
                continues_turn=continues,
            )
        changes = {
            "last_seq": numbers.last_seq,
            "dropped_messages": numbers.dropped,
            "deleted_messages": numbers.deleted,
        }
        self.head = self.head.model_copy(update=changes)
        self.retain()

    def remove(self, seq: int, *, now: datetime) -> bool:
        """Take a message and its group out; tell whether it was there."""
        start = self.index(seq)
        if start == len(self.log) or self.log[start].seq != seq:
            return False
        while start and self._role(start) is Role.TOOL:
            start -= 1
        stop = start + 1
        while stop < len(self.log) and self._role(stop) is Role.TOOL:
            stop += 1
        was_last = stop == len(self.log)
        gone = self.log[start:stop]
        del self.log[start:stop]
        if was_last:
            self.open_calls = open_after(self._last_group())
        for entry in gone:
            self.clients.pop(entry.client_id or "", None)
        for turn in {entry.turn or "" for entry in gone}.intersection(self.turns):
            if not self.turn_entries(turn):
                del self.turns[turn]
        self._mark_again()
        changes = {
            "deleted_messages": self.head.deleted_messages + len(gone),
            "updated_at": now,
        }
        self.head = self.head.model_copy(update=changes)
        return True

    def window_start(self) -> int:
        """Where the newest messages begin that a window is chosen from."""
        start = max(0, len(self.log) - self.head.config.context_window)
        return min(start, self._last_group_start()) if self.open_calls else start

    def _last_group_start(self) -> int:
        """Where the last message stands that is no result."""
        first = len(self.log) - 1
        while first > 0 and self._role(first) is Role.TOOL:
            first -= 1
        return max(first, 0)

    def _last_group(self) -> list[Message]:
        """Return the last message that is no result, and the results behind it."""
        return [
            entry.stored().message for entry in self.log[self._last_group_start() :]
        ]

    def _role(self, index: int) -> Role:
        return self.log[index].stored().message.role

    def _mark_again(self) -> None:
        """Find the newest user message and the newest summary again."""
        users = (
            i for i in reversed(range(len(self.log))) if self._role(i) is Role.USER
        )
        summaries = (e.seq for e in reversed(self.log) if e.kind == "summary")
        newest = next(users, None)
        self.user_seq = 0 if newest is None else self.log[newest].seq
        self.summary_seq = next(summaries, 0)

    def add(
        self,
        message: Message,
        seq: int,
        *,
        turn: str | None,
        at: datetime,
        continues_turn: bool,
    ) -> LogEntry:
        starts = starts_unit(message, turn=turn, continues_turn=continues_turn)
        entry = LogEntry(
            seq=seq,
            turn=turn,
            at_ms=to_ms(at),
            starts_unit=starts,
            kind=kind_of(message),
            client_id=message.client_id,
            body=write_message(message),
        )
        self.log.append(entry)
        self.open_calls = follow(self.open_calls, message)
        if message.client_id is not None:
            self.clients[message.client_id] = seq
        if turn is not None:
            self.turns.setdefault(turn, seq)
        if entry.kind == "summary":
            self.summary_seq = seq
        if message.role is Role.USER:
            self.user_seq = seq
        return entry

    def _starts(self, index: int) -> bool:
        """Whether retention may cut before a message.

        It may before what is left of a turn that has lost its first message.
        """
        entry, before = self.log[index], self.log[index - 1] if index else None
        continues = before is not None and before.turn == entry.turn
        return entry.starts_unit or (
            entry.turn is not None
            and not continues
            and self._role(index) is not Role.TOOL
        )

    def retain(self) -> None:
        """Drop whole turns from the old end until the limit holds, or one is left."""
        limit = self.head.config.max_messages
        excess = 0 if limit is None else len(self.log) - limit
        if excess <= 0:
            return
        newer = range(excess, len(self.log))
        older = reversed(range(excess))
        oldest = next(filter(self._starts, chain(newer, older)), 0)
        for entry in self.log[:oldest]:
            self.clients.pop(entry.client_id or "", None)
            self.turns.pop(entry.turn or "", None)
        del self.log[:oldest]
        dropped = self.head.dropped_messages + oldest
        self.head = self.head.model_copy(update={"dropped_messages": dropped})
