"""The stores that every conformance test runs against: memory, fakeredis, Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from conversations.memory_store import InMemoryConversationStore
from conversations.redis_store import RedisConversationStore
from conversations.store import ConversationStore
from orchestrator import redis_keys
from orchestrator.budget import Budget
from orchestrator.directory import AgentDirectory
from orchestrator.dues import Toll
from orchestrator.gate import Gate
from orchestrator.memory_directory import InMemoryAgentDirectory
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from orchestrator.redis_directory import RedisAgentDirectory
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from orchestrator.redis_pipeline import SharedPipeline
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import TaskStore
from tests.conformance.conversation_steps import KINDS, open_store
from tests.fake_redis import fake_redis


@dataclass(frozen=True)
class Stores:
    """Stores that share one server, or one memory."""

    tasks: TaskStore
    directory: AgentDirectory
    conversations: ConversationStore
    gate: Gate
    budget: Budget
    toll: Toll


OpenStores = Callable[..., Stores]


@pytest.fixture(params=["memory", "fakeredis", "redis"])
async def open_stores(request: pytest.FixtureRequest) -> AsyncIterator[OpenStores]:
    """Opens stores with settings of the task store."""
    if request.param == "memory":
        yield _in_memory
        return
    if request.param == "redis":
        client = connect(request.getfixturevalue("clean_redis_url"))
    else:
        client = fake_redis()
    yield lambda **settings: _on_redis(client, **settings)
    await client.aclose()


@pytest.fixture
def stores(open_stores: OpenStores) -> Stores:
    return open_stores()


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ConversationStore]:
    """A conversation store; the suites of the task store name their own so."""
    async with open_store(request) as store:
        yield store


def _in_memory(**settings: Any) -> Stores:
    conversations = InMemoryConversationStore()
    directory = InMemoryAgentDirectory()
    toll = InMemoryToll()
    tasks = InMemoryTaskStore(
        conversations=conversations, directory=directory, toll=toll, **settings
    )
    return Stores(tasks, directory, conversations, toll.gate, toll.budget, toll)


def _on_redis(client: Redis, **settings: Any) -> Stores:
    return Stores(
        RedisTaskStore(client, **settings),
        RedisAgentDirectory(client),
        RedisConversationStore(
            client,
            execute=SharedPipeline(client).execute,
            awaited_key=redis_keys.turns,
        ),
        RedisGate(client),
        RedisBudget(client),
        RedisToll(client),
    )


@pytest.fixture
async def client(clean_redis_url: str) -> AsyncIterator[Redis]:
    """A client of the real Redis's empty database."""
    client = connect(clean_redis_url)
    yield client
    await client.aclose()
