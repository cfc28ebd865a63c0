"""Celery's consumer, whose rate limits let as many begin as they say, once changed too.

Celery forgets the waiting tasks of the limit that it replaces until that would have let
the next one begin. They count as taken meanwhile: a worker that was slowed to `1/h` and
set free again would stand still for the rest of the hour.
"""

from __future__ import annotations

from typing import Any

from celery.worker.consumer import Consumer

AGAIN_SECONDS = 1.0
"""After a task that could not begin, such as for want of a thread."""


class RateLimitedConsumer(Consumer):  # type: ignore[misc] # untyped
    """Selected by Celery's setting `worker_consumer`."""

    def _limit_task(self, request: Any, bucket: Any, tokens: int) -> None:
        """Have a task wait for its turn; who waits first has set a timer for all.

        Celery sets one for each, and they go on after a lost connection, when those
        that waited are gone. Where more than ten are due at once, kombu's hub calls ten
        and then sleeps for a second (`Hub.fire_timers`).
        """
        if getattr(bucket, "has_timer", False):
            bucket.add((request, tokens))
        else:
            super()._limit_task(request, bucket, tokens)

    def _schedule_bucket_request(self, bucket: Any) -> None:
        """Let those begin whose turn it is; an error leaves the others their timer."""
        try:
            super()._schedule_bucket_request(bucket)
        except Exception:
            if bucket.contents:
                again = (AGAIN_SECONDS, self._schedule_bucket_request, (bucket,))
                self.timer.call_after(*again)
            raise
        finally:
            bucket.has_timer = bool(bucket.contents)

    def reset_rate_limits(self) -> None:
        """Let what waited for its turn wait by the new limits, if there are any."""
        waiting = []
        for bucket in filter(None, self.task_buckets.values()):
            waiting += bucket.contents
            bucket.clear_pending()
        super().reset_rate_limits()
        for request, tokens in waiting:
            bucket = self.task_buckets[request.task.name]
            if bucket is None:
                self._limit_move_to_pool(request)
            else:
                self._limit_task(request, bucket, tokens)
