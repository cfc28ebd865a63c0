"""The two that have workers: Celeriac, and the same jobs in Celery by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import redis

from benchmarks import jobs
from conversations.message import Message
from orchestrator import AsyncOrchestrator
from orchestrator.redis_keys import ENDED, LEASES
from orchestrator.redis_url import for_kombu
from orchestrator.settings import load_settings
from orchestrator.task import Task

QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
ANSWER_SECONDS = 300.0


class Celeriac:
    """All durability on: record, claim, lease, journal, events, turn, result."""

    name = "celeriac"

    def __init__(self, url: str) -> None:
        self.celeriac = AsyncOrchestrator(load_settings(storage={"redis_url": url}))
        self.db = redis.Redis.from_url(url)

    def worker(self, slots: int) -> tuple[str, ...]:
        app = ("workers", "-I", "benchmarks.jobs")
        return (*app, "-c", str(slots), "-l", "WARNING", *QUIET)

    async def prepare(self, kind: str, numbers: Sequence[int]) -> None:
        talks = self.celeriac.conversations
        history = [Message.model_validate(each) for each in jobs.HISTORY]
        for number in numbers if kind == "agent" else ():
            await talks.create(conversation_id=f"c{number}")
            await talks.add_messages(f"c{number}", history)

    async def submit(self, kind: str, numbers: Sequence[int]) -> list[Any]:
        self.ended = self.db.zcard(ENDED)
        return list(
            await self.celeriac.submit_many(
                [
                    {
                        "agent": kind,
                        "input": {"prompt": jobs.QUESTION},
                        **({"conversation_id": f"c{n}"} if kind == "agent" else {}),
                    }
                    for n in numbers
                ]
            )
        )

    async def submit_one(self, number: int) -> Any:
        return await self.celeriac.submit("noop", {"prompt": str(number)})

    async def wait(self, handles: Sequence[Any]) -> int:
        """Wait until all have ended; return the most that ran at once."""
        most = 0
        async with asyncio.timeout(ANSWER_SECONDS):
            while self.db.zcard(ENDED) < self.ended + len(handles):
                most = max(most, self.db.zcard(LEASES))
                await asyncio.sleep(0.02)
        return most

    async def latency(self, handle: Any) -> float:
        """Return the seconds from acceptance to the start, by the store's clock."""
        await handle.result(timeout=30)
        task: Task = await handle.get()
        assert task.started_at is not None
        assert task.created_at is not None
        return (task.started_at - task.created_at).total_seconds()

    async def close(self) -> None:
        await self.celeriac.aclose()
        self.db.close()


class ByHand:
    """Celery's threads pool with a result backend, as people write it."""

    name = "celery threads"

    def __init__(self, url: str) -> None:
        broker = for_kombu(url)
        jobs.app.conf.update(broker_url=broker, result_backend=broker)
        self.db = redis.Redis.from_url(url)

    def worker(self, slots: int) -> tuple[str, ...]:
        app = ("celery", "-A", "benchmarks.jobs", "worker", "-P", "threads")
        return (*app, "-c", str(slots), "-l", "WARNING", *QUIET)

    async def prepare(self, kind: str, numbers: Sequence[int]) -> None:
        lines = [json.dumps(each) for each in jobs.HISTORY]
        for number in numbers if kind == "agent" else ():
            self.db.rpush(f"talk:{number}", *lines)

    async def submit(self, kind: str, numbers: Sequence[int]) -> list[Any]:
        return [jobs.by_hand.delay(kind, number) for number in numbers]

    async def wait(self, handles: Sequence[Any]) -> int:
        for handle in handles:
            handle.get(timeout=ANSWER_SECONDS)
        return 0

    async def close(self) -> None:
        jobs.app.close()
        self.db.close()
