"""Instants on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from orchestrator.cli.moment import Moment


def test_a_duration_is_so_long_ago() -> None:
    at = Moment().convert("2h", None, None)
    age = datetime.now(UTC) - at
    assert timedelta(hours=2) <= age < timedelta(hours=2, minutes=1)


def test_a_duration_is_so_long_from_now_where_a_start_is_asked() -> None:
    wait = Moment(ahead=True).convert("2h", None, None) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=59) < wait <= timedelta(hours=2)
    with pytest.raises(click.BadParameter, match=r"'soon' is no time; .* in how"):
        Moment(ahead=True).convert("soon", None, None)


def test_an_iso_time_keeps_its_offset() -> None:
    at = Moment().convert("2026-03-01T08:00+01:00", None, None)
    assert at == datetime(2026, 3, 1, 7, tzinfo=UTC)


def test_a_time_without_an_offset_is_local() -> None:
    at = Moment().convert("2026-03-01", None, None)
    assert at.astimezone() == datetime(2026, 3, 1).astimezone()


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "-2h", "99999d"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="how long ago"):
        Moment().convert(text, None, None)
