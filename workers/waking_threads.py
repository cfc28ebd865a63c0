"""Celery's pool of threads, which wakes Celery's own thread when a slot is free again.

Celery looks for more work when something comes in, else once a second: a backlog of
short tasks would be done at one task a second for each slot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from celery.concurrency.thread import TaskPool
from kombu.asynchronous import get_event_loop

from workers.errors import UnsupportedPool


class WakingThreads(TaskPool):  # type: ignore[misc] # untyped
    """Takes the place of `--pool threads`."""

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run a task on a thread; its callback frees the slot."""
        hub = get_event_loop()

        def freed(*told: Any) -> None:
            if callback is not None:
                callback(*told)
            if hub is not None:
                hub.call_soon(_nothing)  # type: ignore[no-untyped-call]

        return super().on_apply(target, args, kwargs, callback=freed, **options)

    def grow(self, n: int = 1) -> NoReturn:
        """Refuse `celery control pool_grow` with the remedy.

        Raises:
            UnsupportedPool: always.
        """
        raise UnsupportedPool(
            f"a pool of threads keeps its size of {self.limit}, {n:+d} is not possible;"
            " start the worker with another -c, or without --pool"
        )

    def shrink(self, n: int = 1) -> NoReturn:
        """Refuse `celery control pool_shrink` likewise.

        Raises:
            UnsupportedPool: always.
        """
        self.grow(-n)


def _nothing() -> None:
    """Ends Celery's wait, after which it looks for more work."""
