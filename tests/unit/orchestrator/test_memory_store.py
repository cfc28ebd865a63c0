"""What only the task store in memory must do itself: give its memory back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from conversations.conversation import Conversation, ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from orchestrator.memory_store import InMemoryTaskStore
from tests.conformance.task_steps import completed, running, submit


async def test_a_sweep_forgets_conversations_whose_time_is_over() -> None:
    """Nobody may ever look them up again; Redis forgets them by itself."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    conversations = InMemoryConversationStore(clock=lambda: now)
    store = InMemoryTaskStore(conversations=conversations)
    short = ConversationConfig(ttl_seconds=60)
    for name in ("deleted", "short", "kept"):
        config = short if name == "short" else ConversationConfig()
        await conversations.create(Conversation(id=name, config=config))
    await conversations.delete("default", "deleted")

    def remembered() -> tuple[int, int]:
        return len(conversations._records), len(conversations._tombstones)

    now += timedelta(seconds=59)
    await store.sweep()
    assert remembered() == (2, 1)
    now += timedelta(seconds=2)
    await store.sweep()
    assert remembered() == (1, 1)
    now += timedelta(days=1)
    await store.sweep()
    assert remembered() == (1, 0)


async def test_a_run_that_is_forgotten_takes_along_what_has_joined_it() -> None:
    store = InMemoryTaskStore(result_ttl_seconds=0.0)
    talk = {"conversation_id": "talk"}
    lease = await running(store, idempotency_key="first", **talk)
    for number in range(3):
        more = {"when_busy": "steer", "idempotency_key": f"more-{number}"}
        assert (await submit(store, **talk, **more)).task.id == lease.task_id
    await store.take_messages(lease, "messages:1")
    await store.finish(lease, completed(lease), running_seconds=0)
    acceptance, ledger = store._acceptance, store._ledger
    assert len(acceptance._by_key) == 4
    assert len(ledger.joined) == 3
    await store.sweep()
    assert not acceptance._by_key
    assert not ledger.joined
    assert not store._turns._taken_in
