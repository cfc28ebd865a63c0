"""Ticks, missed ticks and daylight saving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.request import parse_schedule
from orchestrator.schedule import DueSchedule, Missed, Schedule, plan
from orchestrator.task import Task


def schedule(cron: str = "0 * * * *", **fields: object) -> Schedule:
    return Schedule(id="s", cron=cron, task=Task(agent_name="a"), **fields)


def at(hour: int, minute: int = 0, second: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 3, day, hour, minute, second, tzinfo=UTC)


def test_a_tick_follows_the_clock_of_its_time_zone() -> None:
    berlin = schedule("30 6 * * *", time_zone="Europe/Berlin")
    assert berlin.tick_after(at(12, day=27)) == at(5, 30, day=28)
    assert berlin.tick_after(at(12, day=28)) == at(4, 30, day=29)


def test_a_tick_in_the_skipped_hour_comes_right_after_it() -> None:
    berlin = schedule("30 2 * * *", time_zone="Europe/Berlin")
    assert berlin.tick_after(at(0, day=29)) == at(1, day=29)


def test_a_tick_in_the_repeated_hour_comes_once() -> None:
    berlin = schedule("30 2 * * *", time_zone="Europe/Berlin")
    first = berlin.tick_after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert berlin.tick_after(first) - first > timedelta(hours=20)


def test_a_tick_on_time_runs_and_the_next_one_follows() -> None:
    planned = plan(DueSchedule(schedule(), at(3), at(3, 0, 2)))
    assert planned == ((at(3),), at(4))


@pytest.mark.parametrize(
    ("missed", "ticks"),
    [("one", (at(6),)), ("all", (at(3), at(4), at(5), at(6))), ("skip", ())],
)
def test_missed_ticks_run_as_the_policy_says(
    missed: Missed, ticks: tuple[datetime, ...]
) -> None:
    planned = plan(DueSchedule(schedule(missed=missed), at(3), at(6, 30)))
    assert planned == (ticks, at(7))


def test_a_tick_that_is_just_now_is_not_skipped_with_the_missed_ones() -> None:
    planned = plan(DueSchedule(schedule(missed="skip"), at(3), at(6, 0, 10)))
    assert planned == ((at(6),), at(7))


@pytest.mark.parametrize("missed", ["one", "all", "skip"])
def test_a_tick_each_second_is_kept_up_with_by_slower_sweeps(missed: Missed) -> None:
    secondly, now, due = schedule("* * * * * *", missed=missed), at(3), at(3, 0, 1)
    submitted: list[datetime] = []
    while now < at(5):
        now += timedelta(seconds=1.02)
        if due <= now:
            ticks, due = plan(DueSchedule(secondly, due, now))
            submitted += ticks
    assert submitted == [at(3) + timedelta(seconds=n) for n in range(1, 7201)]


def test_very_many_missed_ticks_are_caught_up_in_parts() -> None:
    planned = plan(DueSchedule(schedule("* * * * *", missed="all"), at(3), at(12)))
    assert len(planned.ticks) == 100
    assert planned.next_at == planned.ticks[-1] + timedelta(minutes=1)


def test_a_tick_has_one_task_however_often_it_is_asked_for() -> None:
    made = schedule().task_at(at(3))
    assert made == schedule().task_at(at(3))
    assert made.id != schedule().task_at(at(4)).id
    assert made.metadata == {"schedule": "s", "tick": at(3).isoformat()}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cron", "every day"),
        ("cron", "0 0 30 2 *"),
        ("time_zone", "Europe/Nowhere"),
        ("time_zone", "../etc/passwd"),
        ("id", "a b"),
    ],
)
def test_a_field_that_cannot_be_taken_is_named(field: str, value: str) -> None:
    fields = {"id": "s", "cron": "0 * * * *", "task": Task(agent_name="a")}
    with pytest.raises(InvalidInput) as refused:
        parse_schedule({**fields, field: value})
    assert refused.value.field == field


def test_a_schedule_takes_no_idempotency_key() -> None:
    task = Task(agent_name="a", idempotency_key="k")
    with pytest.raises(InvalidInput, match="many tasks"):
        parse_schedule({"id": "s", "cron": "0 * * * *", "task": task})


@pytest.mark.parametrize("cron", ["* 2 * 3 7L", "* * 2 * 3 7L"])
def test_a_star_in_an_hour_that_is_always_skipped_is_refused(cron: str) -> None:
    """Soon: it was looked for until the year 9999."""
    fields = {"id": "s", "cron": cron, "task": Task(agent_name="a")}
    with pytest.raises(InvalidInput, match=r"^time_zone: .* never shows"):
        parse_schedule(fields | {"time_zone": "Europe/Berlin"})
    assert parse_schedule(fields | {"time_zone": "Asia/Kolkata"}).cron == cron
