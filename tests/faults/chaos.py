"""Random faults from a seed: the same seed makes the same choices.

It kills, freezes and cuts by process id only what the test has started. Whether a
system survives is judged by others; the faults know neither Celeriac nor Celery.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from subprocess import Popen
from threading import Event, Timer

import redis

from tests.faults.restartable_redis import RestartableRedis

FROZEN_SECONDS = 4.5
"""Longer than the lease and the visibility timeout of the systems under test."""


@dataclass
class Monkey:
    """Breaks workers and their Redis until its time is over."""

    server: RestartableRedis
    workers: list[Popen[bytes]]
    start_worker: Callable[[], Popen[bytes]]
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    thawing: list[Timer] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        chance = random.Random(self.seed)  # noqa: S311
        faults = [
            (6, self.kill_worker),
            (2, self.freeze_worker),
            (2, self.kill_redis),
            (2, self.cut_connections),
            (1, self.repeat_messages),
            (1, self.stop_redis),
        ]
        weights, actions = zip(*faults, strict=True)
        end = time.monotonic() + seconds
        pause = Event()
        while time.monotonic() < end:
            (action,) = chance.choices(actions, weights)
            action(chance)
            self.counts[action.__name__] += 1
            pause.wait(chance.uniform(0.2, 1.2))
        for thaw in self.thawing:
            thaw.join()

    def kill_worker(self, chance: random.Random) -> None:
        """SIGKILL; another is started in its place at once."""
        victim = chance.choice(self.workers)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait(10)
        self.workers[self.workers.index(victim)] = self.start_worker()

    def freeze_worker(self, chance: random.Random) -> None:
        """SIGSTOP for longer than a lease, then SIGCONT: a zombie returns."""
        victim = chance.choice(self.workers)
        os.killpg(victim.pid, signal.SIGSTOP)
        thaw = Timer(FROZEN_SECONDS, _thaw, [victim])
        thaw.start()
        self.thawing.append(thaw)

    def kill_redis(self, chance: random.Random) -> None:
        self.server.kill()
        Event().wait(chance.uniform(0.0, 2.0))
        self.server.restart()

    def stop_redis(self, chance: random.Random) -> None:
        with self.server.stopped():
            Event().wait(chance.uniform(0.5, 4.0))

    def cut_connections(self, chance: random.Random) -> None:
        with suppress(redis.RedisError):
            self.server.cut_connections()

    def repeat_messages(self, chance: random.Random) -> None:
        """Put every waiting message into its queue a second time."""
        with suppress(redis.RedisError), self.server.client() as client:
            for key in client.scan_iter("celer*", _type="LIST", count=1000):
                if ":" in key:
                    continue
                messages = client.lrange(key, 0, -1)
                if messages:
                    client.lpush(key, *messages)


def _thaw(victim: Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(victim.pid, signal.SIGCONT)
