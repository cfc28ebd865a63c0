"""Default periods and counts of every task store."""

from __future__ import annotations

from typing import Final

from conversations.conversation import LONGEST_TTL_SECONDS, ConversationConfig

DAY_SECONDS: Final = 86_400.0
RESULT_TTL_SECONDS: Final = 7 * DAY_SECONDS
"""How long an ended task is kept."""
DELTA_TTL_SECONDS: Final = 3600.0
"""How long after a task's end its log holds the pieces that its text came in."""
IDEMPOTENCY_TTL_SECONDS: Final = DAY_SECONDS
"""How long an idempotency key is kept after its task's end."""
MAX_CRASHES: Final = 3
"""A task that so many workers vanished under is failed."""
RESEND_SECONDS: Final = 10.0
"""A message that led to no claim for so long may be lost; the wait then doubles."""
LONGEST_RESEND: Final = 32
"""The longest wait between two messages, in first waits."""
UNSERVED_SECONDS: Final = 2.0
"""A task that met the wrong worker is rung again after this."""
DISPATCH_WINDOW: Final = 64
"""Messages outstanding in a queue at least; more with many live slots."""
PUSHED_CANCEL_SECONDS: Final = 60.0
"""A push that nobody took is worthless once a lease has been renewed."""
OLDEST_LOOKED_AT: Final = 500
"""Pending tasks of a tenant that are looked at to tell since when its agents wait."""
MOST_COUNTERS: Final = 10_000
"""Of a tenant; clients may choose the names of models, and models those of tools."""


def hidden_ttl_seconds(result_ttl_seconds: float) -> float:
    """Return how long a hidden history is kept: a day longer than its task."""
    return min(result_ttl_seconds + DAY_SECONDS, LONGEST_TTL_SECONDS)


def hidden_config(
    config: ConversationConfig, result_ttl_seconds: float
) -> ConversationConfig:
    """Return the limits of a hidden conversation that a turn creates."""
    ttl = hidden_ttl_seconds(result_ttl_seconds)
    return config.model_copy(update={"ttl_seconds": ttl})
