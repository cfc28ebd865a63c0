"""Kinds of option values, and options that several commands share."""

from __future__ import annotations

import json
from typing import Any

import click

from orchestrator.duration import parse_seconds


def duration(text: str) -> float:
    """Read seconds, or text such as `5m`."""
    try:
        return parse_seconds(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise click.BadParameter("not JSON; write it like '{\"key\": 1}'") from None
    if not isinstance(found, dict):
        raise click.BadParameter(
            f"JSON, but a {type(found).__name__} and not an object like '{{…}}'"
        )
    return found


tenant_option = click.option(
    "--tenant", metavar="NAME", help="Whose tasks; the settings' tenant by default."
)
