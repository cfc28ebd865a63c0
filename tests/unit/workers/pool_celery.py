"""Celery's side of a pool, without a worker: a real hub and what it was told."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from kombu.asynchronous import Hub

from workers.pool import AsyncPool
from workers.pool_job import Job

DEADLINE_SECONDS = 30.0


@dataclass
class Told:
    """What one request heard, in order."""

    words: list[str] = field(default_factory=list)
    value: Any = None
    pid: int = 0
    job: Job | None = None

    def accepted(self, pid: int, _at: float) -> None:
        self.words.append("accepted")
        self.pid = pid

    def succeeded(self, value: Any) -> None:
        self.words.append("succeeded")
        self.value = value

    def failed(self, info: Any) -> None:
        self.words.append("failed")
        self.value = info.exception.exc

    def timed_out(self, soft: bool, _seconds: float) -> None:
        self.words.append("soft limit" if soft else "hard limit")

    def terminate(self) -> None:
        """End it as Celery does."""
        assert self.job is not None
        self.job.terminate(15)

    @property
    def over(self) -> bool:
        return bool({"succeeded", "failed", "hard limit"} & set(self.words))


class PoolUser:
    """Applies tasks to a pool and turns the hub until something has happened."""

    def __init__(self, pool: AsyncPool, hub: Hub) -> None:
        self.pool = pool
        self.hub = hub
        self._idle = socket.socketpair()
        self.hub.add_reader(self._idle[0], lambda: None)

    def apply(self, body: Callable[..., Any], *args: Any, **options: Any) -> Told:
        told = Told()
        callbacks: dict[str, Any] = {
            "accept_callback": told.accepted,
            "callback": told.succeeded,
            "error_callback": told.failed,
            "timeout_callback": told.timed_out,
            "correlation_id": "task",
        }
        told.job = self.pool.apply_async(body, args, **{**callbacks, **options})
        return told

    def until(self, condition: Callable[[], object]) -> None:
        give_up_at = monotonic() + DEADLINE_SECONDS
        while not condition():
            assert monotonic() < give_up_at, self.pool.info
            self.hub.call_later(0.02, int)
            self.hub.run_once()

    def until_idle(self) -> None:
        self.until(lambda: not self.pool.info["running"] + self.pool.info["waiting"])

    def close(self) -> None:
        self.pool.terminate()
        self.hub.close()
        for end in self._idle:
            end.close()


@contextmanager
def pool_user(slots: int = 10, **options: Any) -> Iterator[PoolUser]:
    """A started pool and its user."""
    pool = AsyncPool(slots, initargs=(None, "worker@test"), **options)
    user = PoolUser(pool, Hub())
    pool.start()
    pool.register_with_event_loop(user.hub)
    try:
        yield user
    finally:
        user.close()
