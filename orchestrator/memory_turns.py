"""Turns of conversations in memory: superseded, steered, closed without an answer.

Runs under its caller's lock, as the ledger does that it works on.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence

from conversations.closing import closing_messages
from conversations.conversation import ConversationConfig, is_hidden_id
from conversations.errors import ConversationNotFound
from conversations.json_value import loads
from conversations.memory_store import InMemoryConversationStore
from conversations.message import Message
from conversations.record import write_message
from conversations.redaction import Redact, redacted
from conversations.store import WindowRead
from orchestrator.events import EventType
from orchestrator.journal import SUMMARY_KEY, Step, StepKind, summary_of
from orchestrator.memory_entry import Entry, TaskKey
from orchestrator.memory_ledger import MemoryLedger
from orchestrator.said import said_with
from orchestrator.store import Doorbell, Ending
from orchestrator.store_limits import hidden_config
from orchestrator.task import Task, TaskStatus


class MemoryTurns:
    """What becomes of a conversation's unfinished turns."""

    def __init__(
        self,
        ledger: MemoryLedger,
        *,
        conversations: InMemoryConversationStore | None,
        config: ConversationConfig | None,
        result_ttl_seconds: float,
        redact: Redact | None,
    ) -> None:
        """Close the ledger's turns; a conversation that one creates gets `config`."""
        self._ledger = ledger
        self._conversations = conversations
        self._config = config = config or ConversationConfig()
        self._hidden_config = hidden_config(config, result_ttl_seconds)
        self._redact = redact
        self.lock = conversations.lock if conversations else threading.RLock()
        """Guards tasks and conversations together."""
        self._taken_in: defaultdict[TaskKey, list[Task]] = defaultdict(list)
        """The tasks that have joined a run, as `ledger.joined` has them, by the run."""
        ledger.close_turn = self.close
        if conversations is not None:
            conversations.is_awaited = ledger.has_turns

    def append(self, entry: Entry, ending: Ending) -> bool:
        """Append a turn with its answer, if any; tell whether nothing was dropped."""
        task = entry.task
        if ending.turn is None or task.conversation_id is None:
            return True
        if self._conversations is None or entry.rolled_back:
            return False
        try:
            self._conversations.append_now(
                task.tenant,
                task.conversation_id,
                [redacted(each, self._redact) for each in ending.turn.messages],
                turn=task.id,
                create_with=entry.limits or ending.turn.config,
            )
        except ConversationNotFound:
            return False
        return True

    def purge(self) -> None:
        """Drop the conversations whose time is over."""
        if self._conversations is not None:
            self._conversations.purge()

    def close(self, entry: Entry, status: TaskStatus) -> None:
        """Keep what a turn without an answer leaves, and those that it superseded."""
        if status is not TaskStatus.COMPLETED and not entry.rolled_back:
            said = [step.said for step in entry.steps.values() if step.said]
            if entry.saying and entry.saying.text:
                said.append(entry.saying.text)
            step = entry.steps.get(SUMMARY_KEY)
            summary = summary_of(step.outcome) if step else None
            asked = (*entry.asked, *entry.steered)
            closing = closing_messages(asked, said=said, ended=status.value)
            self._append(entry, entry.task, closing, summary=summary)
        for later in entry.superseded:
            ended = TaskStatus.CANCELLED.value
            closing = closing_messages(later.asked, said=(), ended=ended)
            self._append(entry, later.task, closing)

    def use_conversation(self, task: Task) -> ConversationConfig | None:
        """Put the end of a task's conversation off; return its limits."""
        store, conversation_id = self._conversations, task.conversation_id
        if store is None or conversation_id is None:
            return None
        return store.use(task.tenant, conversation_id) or self._limits(task)

    def keeps(self, task: Task) -> bool:
        """Whether a task belongs to a conversation that would be kept here."""
        return self._conversations is not None and task.conversation_id is not None

    def find_window(self, task: Task) -> WindowRead | None:
        """Read what a run may see of its task's conversation, if that is there."""
        store, conversation_id = self._conversations, task.conversation_id
        if store is None or conversation_id is None:
            return None
        return store.find_window(task.tenant, conversation_id)

    def _limits(self, task: Task) -> ConversationConfig:
        """The limits of a conversation that the task creates."""
        hides = is_hidden_id(task.conversation_id)
        return self._hidden_config if hides else self._config

    def is_deleted(self, task: Task) -> bool:
        """Tell whether a task's conversation was deleted within a day."""
        store, conversation_id = self._conversations, task.conversation_id
        if store is None or conversation_id is None:
            return False
        return store.is_deleted(task.tenant, conversation_id)

    def asked(self, task: Task) -> tuple[Message, ...]:
        """What the user says with a task, as it may be stored, if it is a turn.

        Raises:
            RedactionFailed: the hook did; so it is asked once, before all changes.
        """
        if task.conversation_id is None:
            return ()
        return (said_with(task, self._redact),)

    def _append(
        self,
        entry: Entry,
        task: Task,
        closing: Sequence[Message],
        *,
        summary: Message | None = None,
    ) -> None:
        store, conversation_id = self._conversations, task.conversation_id
        if store is None or conversation_id is None:
            return
        limits = entry.limits or self._limits(task)
        config = store.find_config(task.tenant, conversation_id) or limits
        dropped = config.on_failure == "drop"
        messages = [summary] if summary else []
        messages += () if dropped else closing
        if not messages:
            return
        try:
            store.append_now(
                task.tenant,
                conversation_id,
                messages,
                turn=task.id,
                create_with=limits,
            )
        except ConversationNotFound:
            return  # deleted: a late turn does not bring it back

    def supersede(self, task: Task) -> tuple[Doorbell, ...]:
        """Cancel every unfinished turn before a task that will not wait for them.

        The last comes first, so that none of them is offered when the one before it
        ends.
        """
        turns = self._ledger.unfinished_turns(task)
        if turns and task.when_busy == "interrupt":
            turns[0].superseded += turns[1:]
        bells: list[Doorbell] = []
        for entry in reversed(turns):
            entry.rolled_back = entry.rolled_back or task.when_busy == "rollback"
            bells += self._ledger.request_cancel(entry)
        return tuple(bells)

    def steer(self, entry: Entry) -> Entry | None:
        """Let a task join the running turn before it; return that one, if it can."""
        head = self._ledger.next_turn(entry.task)
        if head is None or head is entry:
            return None
        running = head.task.status is TaskStatus.RUNNING
        if not running or head.task.cancel_requested_at is not None:
            return None
        due_at = entry.task.due_at or self._ledger.now
        if entry.held or due_at > self._ledger.now:
            return None
        entry.steers = head
        head.inbox.append(entry)
        return head

    def addressee(self, key: TaskKey) -> Entry | None:
        """The entry that answers for a task: the run that it joined, or its own."""
        entry = self._ledger.answering(key)
        into = entry.steers if entry else None
        if into is not None and into.task.status is TaskStatus.RUNNING:
            return into
        return entry

    def has_mail(self, entry: Entry) -> bool:
        """Whether messages wait for a run."""
        return bool(entry.inbox)

    def take(self, entry: Entry, key: str) -> Step | None:
        """Journal the messages sent to a run; their tasks are no more."""
        if key in entry.steps:
            return entry.steps[key]
        pending = TaskStatus.PENDING
        joining = [each for each in entry.inbox if each.task.status is pending]
        entry.inbox.clear()
        if not joining:
            return None
        messages = [message for each in joining for message in each.asked]
        texts = [loads(write_message(message)) for message in messages]
        step = Step(
            key=key,
            kind=StepKind.MESSAGES,
            outcome=texts,
            attempt=entry.task.attempt,
            recorded_at=self._ledger.now,
        )
        entry.steps[key] = step
        entry.steered += messages
        self._ledger.record(entry, EventType.TASK_STEERED, messages=[*texts])
        for each in joining:
            self._ledger.joined[each.key] = entry.key
            self._taken_in[entry.key].append(each.task)
            self._hand_followers(each, entry)
            self._ledger.withdraw(each)
        return step

    def _hand_followers(self, joining: Entry, run: Entry) -> None:
        """Let those that wait for a task's end wait for that of the run it joins."""
        for key in joining.followers:
            if key in run.followers:
                self._ledger.entries[key].held -= 1
            else:
                run.followers.append(key)

    def forget(self, task: Task) -> Sequence[Task]:
        """Forget which tasks have joined one that is gone; return them."""
        taken_in = self._taken_in.pop((task.tenant, task.id), [])
        for each in taken_in:
            del self._ledger.joined[each.tenant, each.id]
        return taken_in
