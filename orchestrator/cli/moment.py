"""Instants on the command line: an ISO time, or how long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from orchestrator.duration import parse_seconds


class Moment(click.ParamType[datetime]):
    """`2026-03-01T08:00`, `2026-03-01`, or a duration such as `2h`: so long ago.

    A time without an offset is local.
    """

    name = "TIME"

    def __init__(self, *, ahead: bool = False) -> None:
        """Read a duration as so long ago, or as so long `ahead`."""
        self._sign = 1 if ahead else -1

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) + self._sign * timedelta(
                seconds=parse_seconds(value)
            )
        except ValueError:
            pass
        try:
            return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value[:40]!r} is no time; write 2026-03-01T08:00, 2026-03-01, or"
                f" {'in how long' if self._sign > 0 else 'how long ago'}: 2h",
                param,
                ctx,
            )
