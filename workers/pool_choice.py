"""Which of Celery's pools run agents, how many at once, and what is said of others."""

from __future__ import annotations

from typing import Any, Final

from workers.errors import UnsupportedPool

SUPPORTED_POOLS: Final = {
    "pool": "without --pool",
    "prefork": "with --pool prefork",
    "thread": "with --pool threads",
    "solo": "with --pool solo",
}
"""Last part of a pool's module → how to ask for it; `pool` is our AsyncPool."""


def unsupported(pool: str) -> UnsupportedPool:
    """Return the refusal of a pool, with those that can run agents."""
    return UnsupportedPool(
        f"pool {pool!r} cannot run agents; start the worker"
        f" {', '.join(SUPPORTED_POOLS.values())}"
    )


def check_autoscale(pool: str, most: int | None) -> None:
    """Refuse an `--autoscale` that this pool cannot obey; None is no such option."""
    if most is None:
        return
    if pool not in ("pool", "prefork"):
        raise UnsupportedPool(
            "--autoscale needs a pool that grows; leave it out, or start the worker"
            " without --pool or with --pool prefork"
        )
    if most < 1:
        raise UnsupportedPool(
            f"--autoscale {most} leaves no slot for a run; allow at least 1"
        )


def check_loop(pool: str, *, is_there: bool) -> None:
    """Refuse our pool where Celery has no event loop for it to run beside."""
    if pool == "pool" and not is_there:
        raise without_loop()


def without_loop() -> UnsupportedPool:
    """Return the refusal of our pool where Celery runs in threads."""
    return UnsupportedPool(
        "AsyncPool needs Celery's event loop, which this broker or environment does not"
        " offer; use Redis as the broker, without gevent or eventlet"
    )


def with_fast_locals() -> UnsupportedPool:
    """Return the refusal of our pool where Celery keeps what is current by thread."""
    return UnsupportedPool(
        "AsyncPool runs many tasks on one thread, and with USE_FAST_LOCALS each would"
        " take another's request for its own; unset USE_FAST_LOCALS, or start the"
        " worker with --pool prefork or --pool threads"
    )


def pool_of(worker: Any) -> str:
    return str(worker.pool_cls.__module__.rpartition(".")[2])


def slots_of_process(worker: Any) -> int:
    """Return how many runs this process may hold now."""
    return 1 if pool_of(worker) in ("prefork", "solo") else slots_of_worker(worker)


def slots_of_worker(worker: Any) -> int:
    """Return how many runs a worker may hold now; `celery control` changes that."""
    scaler = getattr(worker, "autoscaler", None)  # none is there before its step
    return int(scaler.max_concurrency if scaler else worker.pool.num_processes)
