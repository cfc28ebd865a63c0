"""Scenes drawn at random: together, claims and ends leave what one by one leaves."""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.doorbell_message import doorbell_message
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim
from orchestrator.task import Task
from tests.conformance.task_steps import submitted, try_claim
from tests.conformance.test_redis_together import (
    Doing,
    answer_of,
    end,
    merged,
    one_by_one,
    plain,
    together,
)

SCENES = 12
FIELDS = ("ordinal", "queue", "agent", "created_ms", "due_ms", "status", "attempt")
MORE_FIELDS = ("running_ms", "priority", "suspect", "held", "schema", "finished_fence")
VALUES = ("", "x", "1", "2", "completed")
LINES = ("rung", "ready", "suspects")
"""Where a pending task stands; who comes first there hangs on the order of calls."""


class Scene:
    """Tasks of many kinds, and what happens to their records."""

    def __init__(self, client: Redis, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self.damaged: set[str] = set()
        self._store = RedisTaskStore(
            client,
            dispatch_window=self._random.choice([1, 3, 50]),
            doorbell_message=doorbell_message() if seed % 2 else None,
        )

    async def play(self, doing: Doing) -> tuple[list[Any], dict[str, Any]]:
        draw, tasks = self._random, [await self._submitted(n) for n in range(16)]
        answers: list[Any] = []
        leases = []
        for harm in (0.0, 0.15, 0.3):
            await self._damage(tasks, harm)
            asked = draw.sample(tasks, 12)
            claims = await self._done(
                doing,
                [try_claim(self._store, each, lease_seconds=0.01) for each in asked],
            )
            leases += [each.lease for each in claims if isinstance(each, Claim)]
            answers += map(answer_of, claims)
            await self._damage(tasks, harm / 2)
            ending = [each for each in leases if draw.random() < 0.7]
            ends = await self._done(doing, [end(self._store, each) for each in ending])
            answers += [type(each).__name__ for each in ends]
        return answers, await self._left()

    async def _done(self, doing: Doing, calls: list[Awaitable[Any]]) -> list[Any]:
        """Do it behind another call: what comes first may pass those behind it."""
        first = self._store.ends("default", ["task-none"])
        return (await doing([first, *calls]))[1:]

    async def _submitted(self, number: int) -> Task:
        draw, fields = self._random, dict[str, Any]()
        wishes: dict[str, Any] = {
            "priority": draw.choice([0, 3, 9]),
            "agent_name": "stranger",
            "conversation_id": draw.choice(["talk", "chat"]),
            "queue": "other",
            "tags": ("red",),
            "idempotency_key": f"key-{number}",
            "deadline_seconds": 500.0,
            "after": (f"task-{number // 2:02}",) if number else (),
        }
        for name, value in wishes.items():
            if draw.random() < 0.15:
                fields[name] = value
        return await submitted(self._store, id=f"task-{number:02}", **fields)

    async def _damage(self, tasks: list[Task], share: float) -> None:
        draw, client = self._random, self._client
        for task in tasks:
            key, part = redis_keys.record("default", task.id), draw.choice(PARTS)
            kind, value = draw.random(), draw.choice(VALUES)
            field = draw.choice((*FIELDS, *MORE_FIELDS))
            if draw.random() >= share or await client.type(key) != "hash":
                continue
            self.damaged.add(redis_keys.member("default", task.id))
            if kind < 0.2:
                await client.delete(key + part)
                await client.set(key + part, "foreign")
            elif kind < 0.4:
                await client.hset(key, "deadline_at_ms", "1")
            elif kind < 0.6:
                await client.hdel(key, field)
            else:
                await client.hset(key, field, value)

    async def _left(self) -> dict[str, Any]:
        left: dict[str, Any] = {}
        async for key in self._client.scan_iter("*"):
            if key.startswith(redis_keys.LIBRARIES):
                continue
            match await self._client.type(key):
                case "zset":
                    left[key] = sorted(await self._client.zrange(key, 0, -1))
                case "hash":
                    facts = await self._client.hgetall(key)
                    facts.pop("rung_ms", None)
                    left[key] = {name: plain(name, facts[name]) for name in facts}
                case "stream":
                    left[key] = await self._client.xlen(key)
                case "list":
                    pass
                case kind:
                    left[key] = kind
        return left


PARTS = ("", ":events", ":journal", ":then", ":inbox", ":budget")


def in_line(left: dict[str, Any]) -> set[str]:
    """Take the lines out; return who stands there and is pending."""
    keys = [key for key in left if key.split(":")[2:3] in [[name] for name in LINES]]
    members = {member for key in keys for member in left.pop(key)}
    for key in [key for key in left if ":shares:" in key]:
        left.pop(key)
    return {member for member in members if is_pending(left, member)}


def is_pending(left: dict[str, Any], member: str) -> bool:
    """Whether it waits for a worker; one that was put off is due by itself."""
    record = left.get(redis_keys.record(*member.split()))
    if not isinstance(record, dict) or "pending_reason" in record:
        return False
    return record.get("status") == "pending"


@pytest.mark.parametrize("seed", range(SCENES))
async def test_a_scene_ends_as_it_does_one_by_one(client: Redis, seed: int) -> None:
    alone, left_alone = await Scene(client, seed).play(one_by_one)
    await client.flushdb()
    scene = Scene(client, seed)
    answers, left = await scene.play(together)
    assert answers == alone
    assert in_line(left) >= in_line(left_alone) - scene.damaged
    assert merged(left) == merged(left_alone)
