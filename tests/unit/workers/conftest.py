"""An executor on the in-memory store, for tests of how its runs end."""

from __future__ import annotations

import pytest

from conversations.conversation import ConversationConfig
from conversations.memory_store import InMemoryConversationStore
from conversations.stored_service import StoredConversationService
from orchestrator.memory_store import InMemoryTaskStore
from tests.unit.workers.executor_bench import (
    Bench,
    RecordingQueue,
)
from workers.agent_manager import LocalAgentManager
from workers.executor import Executor, ExecutorLimits, ExecutorParts
from workers.llm.scripted import ScriptedLLMProvider
from workers.tools.registry import ToolRegistry


@pytest.fixture
def bench() -> Bench:
    conversations = InMemoryConversationStore()
    store = InMemoryTaskStore(conversations=conversations)
    queue = RecordingQueue()
    llm = ScriptedLLMProvider()
    manager = LocalAgentManager(llm, ToolRegistry())
    parts = ExecutorParts(
        store=store,
        queue=queue,
        manager=manager,
        conversations=StoredConversationService(conversations),
        conversation_config=ConversationConfig(),
    )
    limits = ExecutorLimits(max_result_bytes=10_000, store_patience_seconds=2.0)
    executor = Executor(parts, worker="w", limits=limits)
    return Bench(store, queue, conversations, llm, manager, executor)
