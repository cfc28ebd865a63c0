"""A worker falls silent only in a flood that nobody hears, and only for a moment."""

from __future__ import annotations

from workers.listeners import (
    SILENCE_SECONDS,
    UNHEARD_BATCHES,
    UNHEARD_SECONDS,
    Listeners,
)


def test_a_flood_that_nobody_hears_is_dropped_for_a_moment() -> None:
    listeners = Listeners()
    for number in range(UNHEARD_BATCHES):
        assert not listeners.are_absent(number * 0.001)
        listeners.note(heard=False, now=number * 0.001)
    last = (UNHEARD_BATCHES - 1) * 0.001
    assert listeners.are_absent(last + SILENCE_SECONDS / 2)
    assert not listeners.are_absent(last + SILENCE_SECONDS)


def test_one_try_is_enough_while_the_flood_goes_on() -> None:
    listeners = Listeners()
    for number in range(UNHEARD_BATCHES):
        listeners.note(heard=False, now=number * 0.001)
    now = 1.0
    for _ in range(5):
        assert not listeners.are_absent(now)
        listeners.note(heard=False, now=now)
        assert listeners.are_absent(now + SILENCE_SECONDS * 0.99)
        now += SILENCE_SECONDS * 1.1
    listeners.note(heard=True, now=now)
    listeners.note(heard=False, now=now)
    assert not listeners.are_absent(now)


def test_events_now_and_then_are_always_sent() -> None:
    listeners = Listeners()
    pause = 1.01 * UNHEARD_SECONDS / (UNHEARD_BATCHES - 1)
    for number in range(100):
        assert not listeners.are_absent(number * pause)
        listeners.note(heard=False, now=number * pause)


def test_one_listener_is_enough() -> None:
    listeners = Listeners()
    for number in range(1000):
        listeners.note(heard=number % 5 == 0, now=number * 0.001)
        assert not listeners.are_absent(number * 0.001)
