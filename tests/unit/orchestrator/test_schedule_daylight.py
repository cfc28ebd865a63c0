"""Both changes of the clock, where they are an hour, half of one, or none at all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.schedule import DueSchedule, Schedule, plan
from orchestrator.task import Task

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def ticks_from(schedule: Schedule, start: datetime, count: int) -> list[datetime]:
    ticks = [schedule.tick_after(start)]
    while len(ticks) < count:
        ticks.append(schedule.tick_after(ticks[-1]))
    return ticks


@given(
    st.sampled_from(ZONES),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 360),
)
@example("Europe/Berlin", 2, 30, 86)
@example("Europe/Berlin", 2, 30, 296)
@example("America/New_York", 1, 30, 303)
@example("Australia/Lord_Howe", 2, 15, 276)
@example("Australia/Lord_Howe", 1, 45, 93)
def test_a_daily_tick_comes_once_on_each_day_of_its_zone(
    zone: str, hour: int, minute: int, day: int
) -> None:
    schedule = Schedule(
        id="s",
        cron=f"{minute} {hour} * * *",
        time_zone=zone,
        task=Task(agent_name="a"),
    )
    ticks = ticks_from(schedule, YEAR + timedelta(days=day), 5)
    days = [tick.astimezone(ZoneInfo(zone)).date() for tick in ticks]
    assert all(one + timedelta(days=1) == next_one for one, next_one in pairwise(days))
    ids = [schedule.task_at(tick).id for tick in ticks]
    assert len(set(ids)) == len(ids)
    assert ids == [schedule.task_at(tick).id for tick in ticks]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("missed", ["all", "one"])
def test_a_year_that_was_missed_is_caught_up_by_the_days_of_the_zone(
    zone: str, missed: str
) -> None:
    schedule = Schedule(
        id="s",
        cron="30 2 * * *",
        time_zone=zone,
        missed=missed,
        task=Task(agent_name="a"),
    )
    due = schedule.tick_after(YEAR)
    now = YEAR + timedelta(days=365)
    submitted: list[datetime] = []
    while due <= now:
        ticks, following = plan(DueSchedule(schedule, due, now))
        submitted += ticks
        assert following > due
        due = following
    days: list[date] = [tick.astimezone(ZoneInfo(zone)).date() for tick in submitted]
    assert len(set(days)) == len(days)
    assert len(days) == (1 if missed == "one" else (days[-1] - days[0]).days + 1)
