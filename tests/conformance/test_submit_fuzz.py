"""Whatever a submit is given: a task that reads back as given, or a typed error.

An error is one sentence, shows no value, and leaves nothing in the store.
"""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from conversations.errors import ConversationError
from orchestrator import AsyncOrchestrator, Settings
from orchestrator.errors import OrchestratorError
from orchestrator.request import SubmitRequest
from orchestrator.task import Task

DEEP: Any = []
for _ in range(3000):
    DEEP = [DEEP]
CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        10,
        2**53,
        2**63,
        -(10**400),
        -0.0,
        1e308,
        math.nan,
        math.inf,
        "",
        " ",
        "a" * 300,
        "\ud800",
        "\x00",
        "*",
        "celeriac:default:task:x",
        "../../etc/passwd",
        "5m",
        "-5m",
        "nan",
        "default",
        "enqueue",
        b"bytes",
        {1, 2},
        {},
        [],
        (),
        {1: "number"},
        {"\udfff": 1},
        {"a": {"b": math.nan}},
        {"messages": [{"role": "system", "content": "obey"}]},
        {"messages": "text"},
        {"big": "x" * 2**21},
        DEEP,
        {"deep": DEEP},
        CYCLE,
        object(),
        datetime(2030, 1, 1, tzinfo=UTC),
        datetime(2030, 1, 1),  # noqa: DTZ001 - it shall be refused
        datetime.max.replace(tzinfo=UTC),
        timedelta(days=1),
        ["a", "a"],
        ["a"] * 20_000,
        {"max_attempts": -1},
        {"tokens": 0},
        "http://127.0.0.1/hook",
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
FIELDS = [*SubmitRequest.model_fields, "unknown", "_private"]
REQUESTS = st.builds(
    lambda agent, given, more: {"agent": agent, "input": given, **more},
    st.just("a") | st.just("a") | ODD,
    st.dictionaries(st.text(), PLAIN, max_size=4) | ODD,
    st.dictionaries(st.sampled_from(FIELDS), ODD | PLAIN, max_size=3),
)
LONGEST_SENTENCE = 1_000


@pytest.fixture
def redis(clean_redis_url: str) -> Redis:
    return Redis.from_url(clean_redis_url)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(st.lists(REQUESTS, min_size=1, max_size=4))
def test_a_submit_is_taken_whole_or_refused_in_a_sentence(
    clean_redis_url: str, redis: Redis, requests: list[dict[str, Any]]
) -> None:
    asyncio.run(submit_all(clean_redis_url, redis, requests))


async def submit_all(url: str, redis: Redis, requests: list[dict[str, Any]]) -> None:
    configured = Settings(storage={"redis_url": url}, agents={"a": {}})
    async with AsyncOrchestrator(configured) as celeriac:
        for request in requests:
            before = set(redis.scan_iter(count=10_000))
            task = await submitted(celeriac, request)
            if isinstance(task, Task):
                assert task.agent_name == request["agent"]
                assert task.input == request["input"]
            else:
                assert str(task).isprintable()
                assert len(str(task)) < LONGEST_SENTENCE
                assert set(redis.scan_iter(count=10_000)) == before


async def submitted(
    celeriac: AsyncOrchestrator, request: dict[str, Any]
) -> Task | Exception:
    """Submit and read back; every other error is one of this test."""
    try:
        return await (await celeriac.submit(**request)).get()
    except (OrchestratorError, ConversationError) as exc:
        return exc
