"""What the greenlets of the asyncio pool are used for again, and what for not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import ContextVar
from functools import partial
from typing import Any

from greenlet import getcurrent

from tests.unit.workers.pool_celery import pool_user
from workers.greenlet_bridge import MOST_IDLE, LoopGreenlet, await_

FOREVER = 3600.0


def nap(seconds: float, value: Any = None) -> Any:
    return await_(asyncio.sleep(seconds, value))


def _greenlets() -> int:
    gc.collect()
    return sum(isinstance(kept, LoopGreenlet) for kept in gc.get_objects())


def test_a_greenlet_makes_one_call_after_the_other_and_hands_nothing_on() -> None:
    colour = ContextVar("colour", default="none")
    seen: list[tuple[object, str]] = []

    def paint(name: str, *, again: bool = True) -> str:
        seen.append((getcurrent(), colour.get()))
        colour.set(name)
        nap(0.001)
        if not again:
            raise ValueError(name)
        return name

    with pool_user(slots=1) as user:
        tolds = [user.apply(paint, name) for name in ("red", "blue")]
        tolds += [user.apply(partial(paint, "green", again=False))]
        tolds += [user.apply(paint, "grey")]
        user.until(lambda: all(told.over for told in tolds))
    first, second, third, last = seen
    assert first[0] is second[0] is third[0]
    assert last[0] is not first[0], "one that raised makes no other call"
    assert [each[1] for each in seen] == ["none"] * 4
    assert [told.value for told in tolds[:2]] == ["red", "blue"]
    assert tolds[2].words[-1] == "failed"


def test_some_greenlets_are_kept_for_further_calls_and_none_beyond_the_pool() -> None:
    before = _greenlets()
    with pool_user(slots=3 * MOST_IDLE) as user:
        tolds = [user.apply(nap, 0.01) for _ in range(3 * MOST_IDLE)]
        user.until(lambda: all(told.over for told in tolds))
        user.until_idle()
        tolds.clear()
        assert 0 < _greenlets() - before <= MOST_IDLE
    assert _greenlets() <= before


def test_a_greenlet_that_waits_for_another_call_keeps_nothing_of_the_last() -> None:
    """Celery's tracer gives an error with all its frames."""

    class Outcome:
        pass

    with pool_user(slots=1) as user:
        told = user.apply(Outcome)
        user.until(lambda: told.over)
        user.until_idle()
        kept = weakref.ref(told.value)
        told.value = None
        assert kept() is None


def test_a_task_that_was_ended_leaves_no_greenlet_for_others() -> None:
    with pool_user(slots=1) as user:
        ended = user.apply(nap, FOREVER, timeout=0.01)
        user.until(lambda: ended.over)
        told = user.apply(nap, 0.001, "next")
        user.until(lambda: told.over)
        assert (ended.words[-1], told.value) == ("hard limit", "next")
