"""Which scripts the task store has, and of what each is composed."""

from __future__ import annotations

from typing import Final

from conversations.append_script import APPEND_FUNCTIONS
from orchestrator.redis_scripts import read_script
from orchestrator.task import TRANSITIONS

_TRANSITIONS: Final = (
    "create",
    "claim",
    "record_step",
    "take_messages",
    "append_events",
    "release",
    "cancel",
    "recover",
    "ring",
    "finish",
)
"""Scripts of one task; they share the functions of lua/task.lua."""
UNGUARDED: Final = ("overdue", "forget")
"""Scripts that only read or free memory."""
_ALONE: Final = ("renew", *UNGUARDED)


def task_scripts() -> dict[str, str]:
    """Return the text of every script by name."""
    shared = transition_table() + APPEND_FUNCTIONS + read_script("task")
    texts = {name: shared + read_script(name) for name in _TRANSITIONS}
    return texts | {name: read_script(name) for name in _ALONE}


def transition_table() -> str:
    """Return the table of allowed transitions as Lua."""
    rows = (
        f"  {status} = {{{', '.join(f'{to} = true' for to in sorted(allowed))}}},"
        for status, allowed in TRANSITIONS.items()
    )
    return "\n".join(["local TRANSITIONS = {", *rows, "}", ""])
