"""Both changes of the clock, where they are an hour, half of one, or none at all."""

from __future__ import annotations

import random
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.schedule import ON_TIME_SECONDS, DueSchedule, Schedule, plan
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


CRONS = (
    "30 2 * * *",
    "5,50 1-3 * * *",
    "0 */2 * * *",
    "*/20 * * * *",
    "10 * * * *",
    "30 1 * * 0",
    "15 0 1 * *",
    "20 */15 * * * *",
)
CHANGES = {
    "Europe/Berlin": ((3, 29, 1), (10, 25, 1)),
    "America/New_York": ((3, 8, 7), (11, 1, 6)),
    "America/Santiago": ((4, 5, 3), (9, 6, 4)),
    "Australia/Lord_Howe": ((4, 4, 15), (10, 3, 15)),
    "Asia/Kolkata": ((3, 29, 1),),
}
"""Months, days and hours of 2026 in UTC."""


@pytest.mark.parametrize("cron", CRONS)
@pytest.mark.parametrize("zone", ZONES)
def test_at_any_moment_the_latest_tick_is_the_one_that_a_walk_finds(
    zone: str, cron: str
) -> None:
    chance = random.Random(f"{zone} {cron}")  # noqa: S311
    for month, day, hour in CHANGES[zone]:
        change = datetime(2026, month, day, hour, tzinfo=UTC)
        fields = {"id": "s", "cron": cron, "time_zone": zone}
        schedule = Schedule(**fields, task=Task(agent_name="a"))
        walk = [schedule.tick_after(change - timedelta(days=2, hours=1))]
        while walk[-1] < change + timedelta(days=1):
            walk.append(schedule.tick_after(walk[-1]))
        seconds = [chance.randrange(-7200, 7200) for _ in range(40)]
        for now in [change + timedelta(seconds=second) for second in seconds]:
            place = bisect_right(walk, now)
            assert schedule.tick_after(now) == walk[place]
            if place == 0:
                continue
            for missed in ("one", "skip"):
                asked = schedule.model_copy(update={"missed": missed})
                ticks, next_at = plan(DueSchedule(asked, walk[0], now))
                late = now - walk[place - 1] > timedelta(seconds=ON_TIME_SECONDS)
                runs = missed == "one" or not late
                assert ticks == ((walk[place - 1],) if runs else ()), now
                assert next_at == walk[place]


def test_a_second_pass_of_the_repeated_hour_brings_no_tick_of_the_first() -> None:
    schedule = Schedule(
        id="s",
        cron="30 2 * * *",
        time_zone="Europe/Berlin",
        task=Task(agent_name="a"),
    )
    due = datetime(2026, 10, 23, 0, 30, tzinfo=UTC)
    now = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    tomorrow = datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    of_today = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert plan(DueSchedule(schedule, due, now)) == ((of_today,), tomorrow)
    assert schedule.tick_after(now) == tomorrow


@pytest.mark.parametrize("cron", ["* * * * * *", "* * * * *", "30 2 29 2 *"])
def test_ten_missed_years_are_looked_through_in_a_few_steps(
    cron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[datetime] = []
    tick_after = Schedule.tick_after

    def counted(schedule: Schedule, instant: datetime) -> datetime:
        looks.append(instant)
        return tick_after(schedule, instant)

    schedule = Schedule(
        id="s", cron=cron, time_zone="Europe/Berlin", task=Task(agent_name="a")
    )
    due = schedule.tick_after(YEAR)
    now = due + timedelta(days=3652, seconds=0.5)
    monkeypatch.setattr(Schedule, "tick_after", counted)
    (tick,), next_at = plan(DueSchedule(schedule, due, now))
    assert tick <= now < next_at == tick_after(schedule, tick)
    assert len(looks) < 80


HALF_MINUTE = timedelta(seconds=30)
LOOKS = 7200
"""Two days and a half."""
CLOCK_CHANGES = (
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, 4, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Volgograd", datetime(2018, 10, 27, 23, tzinfo=UTC)),
)
"""A change by one hour, at midnight, by half an hour, by two, and one of the law."""


def looked_up(cron: str, zone: str, start: datetime) -> list[datetime]:
    """The ticks, by a look at the clock each half minute."""
    clock, face = ZoneInfo(zone), CronSim(cron, start.replace(tzinfo=None))
    shown: dict[datetime, list[datetime]] = {}
    for step in range(LOOKS):
        instant = start + step * HALF_MINUTE
        wall = instant.astimezone(clock).replace(tzinfo=None)
        shown.setdefault(wall, []).append(instant)
    if not any(field.startswith("*") for field in cron.split()[:-3]):
        first, last = min(shown), max(shown)
        wall, instants = last, shown[last]
        while wall > first:
            instants = shown[wall] = shown.get(wall, instants)[:1]
            wall -= HALF_MINUTE
    return sorted(
        {
            instant
            for wall, instants in shown.items()
            if wall.minute in face.minutes
            and wall.hour in face.hours
            and wall.second in face.seconds
            and wall.month in face.months
            and face.match_day(wall.date())
            for instant in instants
        }
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_ticks_are_those_that_a_look_at_the_clock_finds(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    zone, change = CLOCK_CHANGES[seed % len(CLOCK_CHANGES)]
    seconds = chance.choice(["", "", "0 ", "30 ", "*/30 "])
    minutes = chance.choice(["*", "*/20", "0", "30", "15", "5,50", "10-20/5"])
    hours = chance.choice(["*", "*/2", "0", "1", "2", "3", "0-3", "1-2", "0,23", "23"])
    days = chance.choice(["* * *", "* * SUN", "* 3,4,9,10 SUN", "1,5,25-31 * *"])
    cron = f"{seconds}{minutes} {hours} {days}"
    start = change - timedelta(hours=30)
    found = looked_up(cron, zone, start)
    schedule = Schedule(id="s", cron=cron, time_zone=zone, task=Task(agent_name="a"))
    at, walked = start - HALF_MINUTE, []
    while (at := schedule.tick_after(at)) < start + LOOKS * HALF_MINUTE:
        walked.append(at)
    assert walked == found, f"{cron} {zone}"


def test_six_fields_know_the_skipped_hour_and_the_repeated_one() -> None:
    schedule = Schedule(
        id="s",
        cron="0 30 2 * * *",
        time_zone="Europe/Berlin",
        task=Task(agent_name="a"),
    )
    skipped = schedule.tick_after(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert skipped == datetime(2026, 3, 29, 1, tzinfo=UTC)
    first = schedule.tick_after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert schedule.tick_after(first) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_a_star_is_shown_in_both_passes_though_next_year_has_them_too() -> None:
    schedule = Schedule(
        id="s",
        cron="*/30 2 * 10 7L",
        time_zone="Europe/Berlin",
        task=Task(agent_name="a"),
    )
    start = datetime(2026, 10, 24, tzinfo=UTC)
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    shown = [midnight + half * timedelta(minutes=30) for half in range(3)]
    assert ticks_from(schedule, start, 3) == shown
