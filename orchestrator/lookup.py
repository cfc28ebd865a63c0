"""What a look at stored tasks may ask for, checked before any I/O."""

from __future__ import annotations

from orchestrator.errors import InvalidInput

LONGEST_PAGE = 1000
"""Tasks in one page of a listing at most; it is built in memory."""
SEQUENCE_BOUND = 2**53
"""No log is so long; beyond it JSON readers and, at 2**64, Redis lose count."""


def check_task_id(task_id: str) -> str:
    """Return what may be looked up as a task.

    Raises:
        InvalidInput: it is no text.
    """
    if not isinstance(task_id, str):
        raise InvalidInput(
            "task_id",
            f"must be text (got {type(task_id).__name__}); pass a task's id",
        )
    return task_id


def check_agent_name(name: str) -> str:
    """Return what may be looked up as an agent.

    Raises:
        InvalidInput: it is no text.
    """
    if not isinstance(name, str):
        raise InvalidInput(
            "name", f"must be text (got {type(name).__name__}); pass an agent's name"
        )
    return name


def check_page_limit(limit: int) -> int:
    """Return how many tasks a page may hold.

    Raises:
        InvalidInput: it is no integer from 1 to `LONGEST_PAGE`.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidInput("limit", f"must be an integer (got {type(limit).__name__})")
    if not 1 <= limit <= LONGEST_PAGE:
        raise InvalidInput(
            "limit", f"must be 1 to {LONGEST_PAGE}; follow next_cursor for more"
        )
    return limit


def check_sequence(after: int) -> int:
    """Return the event beyond which a log is read.

    Raises:
        InvalidInput: it is no integer, or larger than any sequence.
    """
    is_number = isinstance(after, int) and not isinstance(after, bool)
    if not is_number or after >= SEQUENCE_BOUND:
        given = f"{after.bit_length()} bits" if is_number else type(after).__name__
        raise InvalidInput(
            "after",
            f"must be a sequence number (got {given});"
            " pass that of the last event seen, or leave it out",
        )
    return after
