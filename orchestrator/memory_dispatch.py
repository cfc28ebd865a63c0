"""Which tasks in memory are rung for, and in which order: what lua/dispatch.lua does.

Runs under its caller's lock. Knows nothing of how a run ends.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from orchestrator.figures_store import QueueState
from orchestrator.memory_directory import InMemoryAgentDirectory, utc_now
from orchestrator.memory_entry import Entry, TaskKey
from orchestrator.store import Doorbell
from orchestrator.store_limits import LONGEST_RESEND
from orchestrator.task import TaskStatus

_NEVER: Final = datetime.min.replace(tzinfo=UTC)

Bells = tuple[Doorbell, ...]


@dataclass(eq=False)
class _Queue:
    """The messages of one queue that are out, and who stands in line."""

    rung: dict[TaskKey, tuple[int, int]] = field(default_factory=dict)
    """Band and number of each message."""
    ready: list[tuple[int, int, TaskKey]] = field(default_factory=list)
    """Band, share of the tenant and task, in order."""
    shares: dict[tuple[int, str], int] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)
    suspects: list[TaskKey] = field(default_factory=list)
    aloud: set[TaskKey] = field(default_factory=set)
    """Prime suspects that are rung for or run."""
    overtaken: set[TaskKey] = field(default_factory=set)
    """Whose message was repeated since later ones were taken."""
    number: int = 0
    taken: dict[int, int] = field(default_factory=dict)
    """The last number of each band that came in."""
    taken_at: datetime = _NEVER
    """When a message last came in."""
    probed_at: datetime = _NEVER
    """When one was last repeated on suspicion."""
    probes: int = 0
    """Messages repeated on suspicion since the queue last moved fast."""


class MemoryDispatch:
    """The lines in front of the workers, and the suspects aboard them."""

    def __init__(
        self,
        entries: Mapping[TaskKey, Entry],
        *,
        directory: InMemoryAgentDirectory,
        window: int,
        resend: timedelta,
    ) -> None:
        self._entries = entries
        self._directory = directory
        self._window = window
        self._resend = resend
        self._queues: defaultdict[str, _Queue] = defaultdict(_Queue)
        self._aboard: defaultdict[str, set[TaskKey]] = defaultdict(set)
        """The suspects that a worker runs, prime ones too."""
        self._crashed: dict[str, tuple[datetime, frozenset[TaskKey]]] = {}
        """When a worker vanished, and of whom one is to blame."""

    def offer(self, entry: Entry) -> Bells:
        """Let a pending, due task be rung for: now when there is room."""
        queue = self._queues[entry.task.queue]
        if entry.key in queue.rung:
            return (entry.doorbell,)
        entry.look_later(utc_now() + self._resend * LONGEST_RESEND)
        if entry.company:
            if entry.key not in queue.suspects:
                queue.suspects.append(entry.key)
        elif not queue.ready and self._room(entry.task.queue) > 0:
            return self._ring(entry)
        elif all(key != entry.key for _, _, key in queue.ready):
            self._stand_in_line(queue, entry)
        return self.refill(entry.task.queue)

    def refill(self, name: str) -> Bells:
        """Ring for those in line while there is room."""
        queue = self._queues[name]
        bells = list(self._refill_suspects(queue))
        while queue.ready and self._room(name) > 0:
            band, share, key = queue.ready.pop(0)
            queue.served[band] = share
            bells += self._ring_if_pending(key)
        if not queue.ready:
            queue.shares.clear()
            queue.served.clear()
        return tuple(bells)

    def states(self) -> tuple[QueueState, ...]:
        """How the queues stand that have slots or tasks that wait."""
        names = sorted(self._queues.keys() | self._directory.queues())
        states = (self._state(name, self._queues[name]) for name in names)
        return tuple(state for state in states if any(state[1:]))

    def _state(self, name: str, queue: _Queue) -> QueueState:
        return QueueState(
            name,
            rung=len(queue.rung),
            in_line=len(queue.ready) + len(queue.suspects),
            slots=self._directory.slots(name),
        )

    def refill_all(self) -> Bells:
        """Ring in every queue, and forget messages of tasks that want none."""
        for queue in self._queues.values():
            for key in [key for key in queue.rung if not self._is_pending(key)]:
                del queue.rung[key]
                queue.overtaken.discard(key)
        return tuple(bell for name in [*self._queues] for bell in self.refill(name))

    def take_message(self, entry: Entry) -> None:
        """A message for the task has come in."""
        queue = self._queues[entry.task.queue]
        if entry.key not in queue.rung:
            return
        band, number = queue.rung.pop(entry.key)
        if utc_now() - queue.taken_at < self._resend:
            queue.probes = 0
        queue.taken_at = utc_now()
        if entry.key in queue.overtaken:
            # It may be the first one: that proves nothing of those before the second.
            queue.overtaken.discard(entry.key)
            return
        queue.taken[band] = max(queue.taken.get(band, 0), number)

    def is_rung(self, entry: Entry) -> bool:
        """Whether a message of the task is outstanding."""
        return entry.key in self._queues[entry.task.queue].rung

    def doubts(self, entry: Entry) -> bool:
        """Whether the task's message seems lost; it then counts as sent again.

        One was taken that came after it could have been, or it is the last of its
        band and none has been taken for long.
        """
        queue = self._queues[entry.task.queue]
        band, number = queue.rung[entry.key]
        taken = (n for other, n in queue.taken.items() if other >= band)
        if max(taken, default=0) > number:
            self._number(queue, entry)
            queue.overtaken.add(entry.key)
            return True
        if number < max(n for b, n in queue.rung.values() if b == band):
            return False
        idle = self._has_free_slots(entry.task.queue)
        doublings = 0 if idle else min(queue.probes, 9)
        since = (entry.rung_at or _NEVER) if idle else queue.taken_at
        patience = self._resend * min(2**doublings, LONGEST_RESEND)
        if utc_now() - max(since, queue.probed_at) < patience:
            return False
        queue.overtaken.discard(entry.key)
        queue.probes += 1
        queue.probed_at = utc_now()
        return True

    def leave_line(self, entry: Entry) -> None:
        """The task is no longer pending; its message may still be out."""
        queue = self._queues[entry.task.queue]
        queue.ready = [each for each in queue.ready if each[2] != entry.key]
        if entry.key in queue.suspects:
            queue.suspects.remove(entry.key)
        queue.aloud.discard(entry.key)

    def has_berth(self, entry: Entry, worker: str) -> bool:
        """Whether a worker may take a prime suspect to those that it runs."""
        primes = self._primes(worker)
        return len(primes) < min(each.company for each in [entry, *primes])

    def take_aboard(self, entry: Entry) -> None:
        """A worker begins to run a suspect."""
        self._aboard[entry.task.worker or ""].add(entry.key)
        if entry.company:
            self._queues[entry.task.queue].aloud.add(entry.key)

    def _primes(self, worker: str) -> list[Entry]:
        """The prime suspects that a worker runs."""
        entries = (self._entries.get(key) for key in self._aboard.get(worker, ()))
        return [
            entry
            for entry in entries
            if entry is not None
            and entry.company
            and entry.task.status is TaskStatus.RUNNING
            and entry.task.worker == worker
        ]

    def stand_back(self, entry: Entry) -> None:
        """A prime suspect met a worker that has no berth for it."""
        queue = self._queues[entry.task.queue]
        queue.aloud.discard(entry.key)
        queue.suspects.append(entry.key)

    def leave_ship(self, entry: Entry, *, cleared: bool) -> Bells:
        """A suspect's run is above suspicion, or ends its attempt."""
        if not entry.task.suspect:
            return ()
        worker = entry.task.worker or ""
        self._aboard[worker].discard(entry.key)
        if not self._aboard[worker]:
            del self._aboard[worker]
        if cleared:
            entry.set(suspect=False)
            entry.company = 0
        self._queues[entry.task.queue].aloud.discard(entry.key)
        return self.refill(entry.task.queue)

    def blame(self, entry: Entry, instant: datetime) -> frozenset[TaskKey]:
        """Of whom one brought a run's worker down; of nobody in particular when empty.

        The first of its runs that is taken back decides for all that it ran then.
        """
        worker = entry.task.worker or ""
        crashed_at, blamed = self._crashed.get(worker, (_NEVER, frozenset()))
        if entry.claimed_at is not None and entry.claimed_at <= crashed_at:
            return blamed
        primes = frozenset(each.key for each in self._primes(worker))
        blamed = primes or frozenset(self._aboard.pop(worker, ()))
        self._crashed[worker] = instant, blamed
        return blamed

    def _room(self, name: str) -> int:
        slots = self._directory.slots(name)
        return max(self._window, 4 * slots) - len(self._queues[name].rung)

    def _has_free_slots(self, name: str) -> bool:
        running = sum(
            entry.task.status is TaskStatus.RUNNING for entry in self._entries.values()
        )
        return self._directory.slots(name) > running

    def _refill_suspects(self, queue: _Queue) -> Bells:
        bells: list[Doorbell] = []
        workers = max(1, self._directory.count())
        while queue.suspects:
            key = queue.suspects[0]
            entry = self._entries.get(key)
            if entry and len(queue.aloud) >= workers * max(1, entry.company):
                break
            del queue.suspects[0]
            rung = self._ring_if_pending(key)
            if rung:
                queue.aloud.add(key)
            bells += rung
        return tuple(bells)

    def _ring_if_pending(self, key: TaskKey) -> Bells:
        return self._ring(self._entries[key]) if self._is_pending(key) else ()

    def _ring(self, entry: Entry) -> Bells:
        self._number(self._queues[entry.task.queue], entry)
        entry.rung_at = utc_now()
        entry.look_later(utc_now() + self._resend)
        return (entry.doorbell,)

    def _number(self, queue: _Queue, entry: Entry) -> None:
        queue.number += 1
        queue.rung[entry.key] = 9 - entry.urgency, queue.number

    def _is_pending(self, key: TaskKey) -> bool:
        entry = self._entries.get(key)
        if entry is None or entry.task.status is not TaskStatus.PENDING:
            return False
        due_at = entry.task.due_at
        return due_at is None or due_at <= utc_now()

    def _stand_in_line(self, queue: _Queue, entry: Entry) -> None:
        band, tenant = 9 - entry.urgency, entry.task.tenant
        last = queue.shares.get((band, tenant), 0)
        share = max(queue.served.get(band, 0), last) + 1
        queue.shares[band, tenant] = share
        insort(queue.ready, (band, share, entry.key))
