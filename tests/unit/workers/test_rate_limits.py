"""Who waits for a turn by a rate limit keeps a timer, whatever happens to others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kombu.utils.limits import TokenBucket

from workers.rate_limits import AGAIN_SECONDS, RateLimitedConsumer


class Timer:
    """Notes what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Any, tuple[Any, ...]]] = []

    def call_after(
        self, seconds: float, call: Any, args: tuple[Any, ...] = (), **_: object
    ) -> None:
        self.calls.append((seconds, call, args))


def test_a_task_that_cannot_begin_leaves_those_behind_it_their_turn() -> None:
    consumer: Any = object.__new__(RateLimitedConsumer)
    consumer.timer, begun = Timer(), []

    def begin(request: Any) -> None:
        if request.name == "no thread":
            raise RuntimeError("can't start new thread")
        begun.append(request.name)

    consumer._limit_move_to_pool = begin
    bucket = TokenBucket(fill_rate=1000, capacity=1000)
    for name in ("no thread", "second", "third"):
        bucket.add((SimpleNamespace(name=name), 1))
    with pytest.raises(RuntimeError):
        consumer._schedule_bucket_request(bucket)
    ((seconds, call, args),) = consumer.timer.calls
    assert seconds == AGAIN_SECONDS
    call(*args)
    assert begun == ["second", "third"]


def test_a_lost_connection_leaves_no_timer_that_goes_on_beside_the_next() -> None:
    consumer: Any = object.__new__(RateLimitedConsumer)
    consumer.timer, consumer.controller, consumer.pool = Timer(), None, None
    consumer._limit_order = 0
    task = SimpleNamespace(name="slow", rate_limit="1/h")
    consumer.app = SimpleNamespace(tasks={task.name: task})
    consumer.task_buckets = {}
    consumer.reset_rate_limits()
    consumer._limit_move_to_pool = lambda _: None
    bucket = consumer.task_buckets[task.name]

    def wait_for_a_turn() -> int:
        """Return how many timers go on while tasks wait."""
        for _ in range(3):
            consumer._limit_task(SimpleNamespace(task=task), bucket, 1)
        due, consumer.timer.calls = consumer.timer.calls, []
        for _, call, arguments in due:
            call(*arguments)
        return len(consumer.timer.calls)

    assert wait_for_a_turn() == 1
    consumer.on_close()
    assert wait_for_a_turn() == 1
    consumer.on_close()
    ((_, call, arguments),) = consumer.timer.calls
    consumer.timer.calls = []
    call(*arguments)
    assert consumer.timer.calls == []
    assert wait_for_a_turn() == 1
