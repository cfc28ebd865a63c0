"""Celery hears of a slot that is free again at once, not at its next look."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from kombu.asynchronous import Hub, set_event_loop

from workers.errors import UnsupportedPool
from workers.waking_threads import WakingThreads

DEADLINE_SECONDS = 10.0


class ToldHub(Hub):
    """Notes when it is woken."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.told = told
        self.woken = threading.Event()

    def call_soon(self, callback: Callable[[], None], *args: object) -> None:
        self.told.append("woken")
        self.woken.set()


def test_celery_is_woken_once_the_callback_has_freed_the_slot() -> None:
    told: list[str] = []
    hub = ToldHub(told)
    set_event_loop(hub)
    pool = WakingThreads(limit=1)
    try:
        pool.on_apply(
            lambda: told.append("run"),
            callback=lambda *_: told.append("freed"),
            accept_callback=lambda *_: told.append("accepted"),
        )
        assert hub.woken.wait(DEADLINE_SECONDS)
    finally:
        pool.on_stop()
        set_event_loop(None)
        hub.close()
    assert told == ["accepted", "run", "freed", "woken"]


@pytest.mark.parametrize(("change", "told"), [("grow", r"\+2"), ("shrink", "-2")])
def test_what_would_change_its_size_is_refused_with_the_remedy(
    change: str, told: str
) -> None:
    pool = WakingThreads(limit=3)
    try:
        with pytest.raises(UnsupportedPool, match=f"size of 3, {told} .*another -c"):
            getattr(pool, change)(2)
    finally:
        pool.on_stop()
