"""Accepting tasks in memory: equal requests, unknown agents, busy conversations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from conversations.errors import ConversationBusy, ConversationNotFound
from orchestrator.errors import AgentNotFound, IdempotencyConflict
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_entry import Entry, TaskKey
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.memory_turns import MemoryTurns
from orchestrator.store import Creation, Doorbell
from orchestrator.task import Task, TaskStatus
from orchestrator.task_record import cache_hash, request_hash
from orchestrator.task_specification import specification


@dataclass(frozen=True)
class _Accepted:
    """What an idempotency key was used for."""

    task_id: str
    request: str
    at: datetime


class MemoryAcceptance:
    """Decides on submits; runs under its caller's lock."""

    def __init__(
        self,
        ledger: MemoryLedger,
        *,
        turns: MemoryTurns,
        directory: InMemoryAgentDirectory,
        known_agents: Collection[str],
        idempotency_ttl_seconds: float,
    ) -> None:
        self._ledger = ledger
        self._turns = turns
        self._directory = directory
        self._known_agents = known_agents
        self._kept = timedelta(seconds=idempotency_ttl_seconds)
        self._by_key: dict[tuple[str, str], _Accepted] = {}
        self._by_request: dict[tuple[str, str], str] = {}
        self._shared: defaultdict[TaskKey, list[str]] = defaultdict(list)
        """The keys of requests that were given another one's task, by that task."""

    def accept(self, task: Task) -> Creation | Exception:
        """Accept a task, find the earlier one, or say why not."""
        for earlier in (self._same_id, self._same_key, self._cached):
            found = earlier(task)
            if found is not None:
                return found
        refusal = self._refusal(task)
        if refusal is not None:
            return refusal
        asked = self._turns.asked(task)  # raises before anything has changed
        superseded: tuple[Doorbell, ...] = ()
        if task.when_busy in ("interrupt", "rollback"):
            superseded = self._turns.supersede(task)
        entry, bells = self._ledger.add(task)
        entry.asked = asked
        entry.limits = self._turns.use_conversation(task)
        self._remember(task)
        if task.when_busy == "steer":
            joined = self._turns.steer(entry)
            if joined is not None:
                return _creation(joined, created=False, bells=bells)
        return _creation(entry, created=True, bells=(*superseded, *bells))

    def find_keyed(self, tenant: str, key: str) -> str | None:
        """Return the id of the task that a key leads to."""
        found = self._keyed(tenant, key)
        return found[1].task.id if found else None

    def _keyed(self, tenant: str, key: str) -> tuple[_Accepted, Entry] | None:
        used = self._by_key.get((tenant, key))
        entry = self._turns.addressee((tenant, used.task_id)) if used else None
        if used is None or entry is None:
            return None
        ended_at = entry.task.finished_at
        if ended_at is not None and (
            max(ended_at, used.at) + self._kept <= self._ledger.now
        ):
            return None
        return used, entry

    def _same_id(self, task: Task) -> Creation | Exception | None:
        own = self._ledger.entries.get((task.tenant, task.id))
        entry = self._turns.addressee((task.tenant, task.id))
        if entry is None:
            return None
        if own is not None and specification(own.task) != specification(task):
            key = task.idempotency_key or task.id
            return IdempotencyConflict(key, task_id=entry.task.id)
        return self._repeated(entry)

    def _same_key(self, task: Task) -> Creation | Exception | None:
        key = task.idempotency_key
        found = self._keyed(task.tenant, key) if key else None
        if key is None or found is None:
            return None
        used, entry = found
        if used.request != request_hash(task):
            return IdempotencyConflict(key, task_id=entry.task.id)
        return self._repeated(entry)

    def _cached(self, task: Task) -> Creation | None:
        if task.cache_ttl_seconds is None:
            return None
        task_id = self._by_request.get((task.tenant, cache_hash(task)))
        entry = self._ledger.entries.get((task.tenant, task_id)) if task_id else None
        if entry is None or not self._shareable(entry.task, task.cache_ttl_seconds):
            return None
        if task.idempotency_key is not None:
            self._keep_key(task, entry.task.id)
            self._shared[entry.key].append(task.idempotency_key)
        return _creation(entry, created=False)

    def _shareable(self, task: Task, cache_ttl_seconds: float) -> bool:
        now = self._ledger.now
        if not task.status.is_terminal:
            waits = task.status is TaskStatus.PENDING
            delayed = waits and task.due_at is not None and task.due_at > now
            return task.cancel_requested_at is None and not delayed
        if task.status is not TaskStatus.COMPLETED or task.finished_at is None:
            return False
        age = now - task.finished_at
        whole = task.result is None or not task.result.partial
        return whole and age < timedelta(seconds=cache_ttl_seconds)

    def _refusal(self, task: Task) -> Exception | None:
        registered = self._directory.names()
        known = registered | frozenset(self._known_agents)
        if registered and task.agent_name not in known:
            nearest = get_close_matches(task.agent_name, sorted(known))
            return AgentNotFound(task.agent_name, nearest=nearest)
        conversation_id = task.conversation_id
        if conversation_id is not None and self._turns.is_deleted(task):
            return ConversationNotFound(conversation_id)
        if conversation_id is None or task.when_busy != "reject":
            return None
        busy = self._ledger.next_turn(task) is not None
        return ConversationBusy(conversation_id) if busy else None

    def _remember(self, task: Task) -> None:
        self._keep_key(task, task.id)
        if task.cache_ttl_seconds is not None:
            self._by_request[task.tenant, cache_hash(task)] = task.id

    def _keep_key(self, task: Task, leads_to: str) -> None:
        if task.idempotency_key is not None:
            self._by_key[task.tenant, task.idempotency_key] = _Accepted(
                leads_to, request_hash(task), self._ledger.now
            )

    def forget(self, task: Task) -> None:
        """Drop what was remembered of a task that is gone, and of those it took in."""
        for each in (task, *self._turns.forget(task)):
            own = each.idempotency_key or ""
            for name in (own, *self._shared.pop((each.tenant, each.id), ())):
                used = self._by_key.get((each.tenant, name))
                if used is not None and used.task_id == each.id:
                    del self._by_key[each.tenant, name]
        if task.cache_ttl_seconds is not None:
            request = task.tenant, cache_hash(task)
            if self._by_request.get(request) == task.id:
                del self._by_request[request]

    def _repeated(self, entry: Entry) -> Creation:
        bells = self._ledger.dispatch.offer(entry) if self._may_run(entry) else ()
        return _creation(entry, created=False, bells=bells)

    def _may_run(self, entry: Entry) -> bool:
        due_at = entry.task.due_at
        is_due = due_at is not None and due_at <= self._ledger.now
        return is_due and not entry.held and self._ledger.is_next_turn(entry)


def _creation(
    entry: Entry, *, created: bool, bells: tuple[Doorbell, ...] = ()
) -> Creation:
    return Creation(entry.task.model_copy(deep=True), created, bells)
