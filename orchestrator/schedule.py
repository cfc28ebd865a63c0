"""Schedules: which task is due when, by a cron expression in a time zone.

Knows no store, and looks at the clock only to check that a tick will come. Daylight
saving is as Debian's cron has it: a tick at set hours that falls within the skipped
hour comes right after it, one within the repeated hour once; a `*` that begins minutes
or hours (or seconds) goes by what the clock shows, in both passes. cronsim walks the
face of a clock that is never changed: where it knows the zone, six fields and changes
at midnight lose ticks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from conversations.json_value import Identifier, Text
from orchestrator.task import Task

ON_TIME_SECONDS: Final = 60.0
"""A tick that is found so late is not missed."""
CAUGHT_UP_AT_ONCE: Final = 100
"""Missed ticks that one sweep submits for one schedule."""
LOOKED_AHEAD_YEARS: Final = 50
"""A tick that does not come in these never does."""

Missed = Literal["one", "all", "skip"]
"""What becomes of ticks at which nothing was running to see them."""


class Schedule(BaseModel):
    """A task that is submitted again and again."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    id: Identifier
    """Names it within its tenant."""
    cron: Text = Field(max_length=100)
    """Minute, hour, day of month, month, day of week; six fields begin with seconds."""
    time_zone: Text = Field(default="UTC", max_length=64)
    """Where the clock hangs, such as `Europe/Berlin`."""
    missed: Missed = "one"
    """`one`: the latest missed tick runs, `all`: each does, `skip`: none does."""
    task: Task
    """What is submitted at each tick."""
    next_at: datetime | None = None
    """The next tick, by the store."""

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str, info: ValidationInfo) -> str:
        try:
            zone = ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("not a time zone; use a name such as Europe/Berlin") from (
                None
            )
        cron = info.data.get("cron", "")
        if _has_star(cron):
            _first_shown(cron, datetime.now(zone))
        return value

    @field_validator("cron")
    @classmethod
    def _cron_has_a_tick(cls, value: str) -> str:
        try:
            next(CronSim(value, datetime.now(UTC)))
        except (CronSimError, StopIteration):
            raise ValueError(
                "not a cron expression that ever comes; use five fields such as"
                " '30 6 * * 1-5'"
            ) from None
        return value

    def tick_after(self, instant: datetime) -> datetime:
        """Return the first tick after an instant."""
        local = instant.astimezone(ZoneInfo(self.time_zone))
        if _has_star(self.cron):
            return _shown_after(self.cron, local)
        ticks = (_first_instant(wall, local) for wall in _walls(self.cron, local))
        return next(tick for tick in ticks if tick > instant)

    def has_ticks_of(self, other: Schedule) -> bool:
        """Whether both are due at the same times."""
        return (self.cron, self.time_zone) == (other.cron, other.time_zone)

    def task_at(self, tick: datetime) -> Task:
        """Return the task of a tick: the same id and request however often asked."""
        named = f"{self.task.tenant} {self.id} {tick.isoformat()}"
        facts = {"schedule": self.id, "tick": tick.isoformat()}
        return self.task.model_copy(
            update={
                "id": f"tick-{sha256(named.encode()).hexdigest()[:32]}",
                "metadata": {**self.task.metadata, **facts},
            }
        )


def _has_star(cron: str) -> bool:
    return any(field.startswith("*") for field in cron.split()[:-3])


def _walls(cron: str, local: datetime) -> Iterator[datetime]:
    """What a clock that is never changed would show at each tick from then on."""
    return CronSim(cron, local.replace(tzinfo=None))


def _first_instant(wall: datetime, local: datetime) -> datetime:
    """When the clock shows that for the first time, or has just skipped it."""
    shown = wall.replace(tzinfo=local.tzinfo)
    while _is_skipped(shown):
        # No zone has changed its clock within a minute since cron was written.
        shown = shown.replace(second=0) + timedelta(minutes=1)
    return shown.astimezone(UTC)


def _is_skipped(shown: datetime) -> bool:
    return shown.astimezone(UTC).astimezone(shown.tzinfo) != shown


def _first_shown(cron: str, local: datetime) -> datetime:
    """Return the first tick that a clock shows before it goes back.

    Raises:
        ValueError: all fall where the clock goes forward.
    """
    wall = next(_walls(cron, local))
    while _is_skipped(shown := wall.replace(tzinfo=local.tzinfo, fold=local.fold)):
        if wall.year > local.year + LOOKED_AHEAD_YEARS:
            raise ValueError("its clock never shows such a time; use other hours")
        resumed = _first_instant(wall, local).astimezone(local.tzinfo)
        wall = next(_walls(cron, resumed - timedelta(seconds=1)))
    return shown


def _shown_after(cron: str, local: datetime) -> datetime:
    """Return the first instant after another at which the clock shows a tick."""
    tick = _first_shown(cron, local)
    shift = _repeated(local)
    if not shift or local.fold or (_repeated(tick) and tick - local < shift):
        return tick.astimezone(UTC)
    # The clock will go back before that: what it shows again may come earlier.
    instant = local.astimezone(UTC)
    again = (
        wall.replace(tzinfo=local.tzinfo, fold=1).astimezone(UTC)
        for wall in _walls(cron, local - shift)
    )
    second = next(each for each in again if each > instant)
    return min(tick.astimezone(UTC), second)


def _repeated(shown: datetime) -> timedelta:
    """By how much the clock goes back to show it a second time; 0 where it does not."""
    first, second = (shown.replace(fold=fold).utcoffset() for fold in (0, 1))
    return (first or timedelta()) - (second or timedelta())


class DueSchedule(NamedTuple):
    """A schedule whose tick has come, and the store's present."""

    schedule: Schedule
    tick: datetime
    now: datetime


class Plan(NamedTuple):
    """What to do about a due schedule."""

    ticks: tuple[datetime, ...]
    next_at: datetime


def plan(due: DueSchedule) -> Plan:
    """Decide which ticks run now and when to look again."""
    schedule, tick, now = due
    following = schedule.tick_after(tick)
    late = now - tick > timedelta(seconds=ON_TIME_SECONDS)
    if schedule.missed == "all" or not late:
        # All that have come: one at a time, a tick a second falls behind the sweeps.
        ticks = [tick]
        while following <= now and len(ticks) < CAUGHT_UP_AT_ONCE:
            ticks.append(following)
            following = schedule.tick_after(following)
        return Plan(tuple(ticks), following)
    if following <= now:
        tick, following = _latest_tick(due)
        late = now - tick > timedelta(seconds=ON_TIME_SECONDS)
    runs = not (late and schedule.missed == "skip")
    return Plan((tick,) if runs else (), following)


def _latest_tick(due: DueSchedule) -> tuple[datetime, datetime]:
    """Return the last tick that has come and the one after it.

    Halves the time between a tick and now, so that a year of seconds takes 25 looks:
    cronsim walking backwards does not know a repeated hour.
    """
    schedule, latest, now = due
    quiet_from = now
    while (following := schedule.tick_after(latest)) <= now:
        middle = following + (quiet_from - following) / 2
        found = schedule.tick_after(middle)
        if found <= now:
            latest = max(following, found)
        else:
            latest, quiet_from = following, middle
    return latest, following
