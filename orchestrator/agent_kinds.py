"""Which kinds of agents there are, by name; what they do is the workers' affair.

Ours, and those that installed packages announce in the entry point group
`celeriac.agents`. Their names are read without importing them.
"""

from __future__ import annotations

from importlib.metadata import EntryPoints, entry_points
from typing import Final

from orchestrator.settings_problems import did_you_mean

OUR_KINDS: Final = ("llm", "researcher", "summarizer")
ENTRY_POINT_GROUP: Final = "celeriac.agents"


def announced_kinds() -> EntryPoints:
    """Return what installed packages announce."""
    return entry_points(group=ENTRY_POINT_GROUP)


def unknown_kind(kind: str) -> str | None:
    """Say what is wrong with a kind and what helps; None when it can be built."""
    if kind in OUR_KINDS:
        return None
    known = sorted({*OUR_KINDS, *announced_kinds().names})
    if kind in known:
        return None
    return (
        f"kind {kind[:64]!r} is not known{did_you_mean(kind, known)} (a package that is"
        f" installed may announce more in the entry point group {ENTRY_POINT_GROUP})"
    )
