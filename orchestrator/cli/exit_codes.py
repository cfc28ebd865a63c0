"""What the command line's exit codes mean, and which error ends with which."""

from __future__ import annotations

from typing import Final

from conversations.errors import ConversationError, ConversationStoreUnavailable
from orchestrator.errors import (
    OrchestratorError,
    QueueUnavailable,
    StoreUnavailable,
    TaskEndedWithoutResult,
    WaitTimeout,
)

OK: Final = 0
TASK_FAILED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 69
"""`EX_UNAVAILABLE`, as `celery inspect ping` answers without workers."""
WAIT_TIMED_OUT: Final = 124
"""As `timeout` answers."""
INTERRUPTED: Final = 130

EXPLAINED: Final = """\b
Exit codes:
  0    it worked
  1    a task ended without an answer
  2    usage, input or settings cannot be taken
  69   no Redis, worker or endpoint answers
  124  the wait timed out; the task goes on
  130  interrupted; tasks go on
"""


class Unavailable(OrchestratorError):
    """Something that a command needs does not answer."""


def exit_code_of(error: OrchestratorError | ConversationError) -> int:
    """Return the code that a command ends with on this error."""
    if isinstance(error, TaskEndedWithoutResult):
        return TASK_FAILED
    if isinstance(error, WaitTimeout):
        return WAIT_TIMED_OUT
    unavailable = (
        Unavailable,
        StoreUnavailable,
        QueueUnavailable,
        ConversationStoreUnavailable,
    )
    return UNAVAILABLE if isinstance(error, unavailable) else USAGE
