"""Messages that no worker can read: put aside by queue, counted, told in the log.

Knows no transport; errors of Redis are its caller's.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

logger = logging.getLogger(__name__)

MAX_MALFORMED = 1000
"""Kept per queue, each cut to the bytes below."""
MAX_MALFORMED_BYTES = 64 * 1024
LOG_EVERY_SECONDS = 60.0
"""For each kind of fault, so that a flood of garbage is no flood of lines."""


class Quarantine:
    """The lists `<queue>.malformed` beside the queues, and their counts by reason."""

    def __init__(self, *, key_prefix: str) -> None:
        self._key_prefix = key_prefix
        self._logged_at: dict[str, float] = {}

    def tell(self, queue: str, *, reason: str, why: str) -> None:
        """Tell of a message in the log, unless one like it was told of just now."""
        now = monotonic()
        if now - self._logged_at.get(reason, -LOG_EVERY_SECONDS) >= LOG_EVERY_SECONDS:
            self._logged_at[reason] = now
            logger.warning(
                "malformed message put aside",
                extra={"queue": queue, "reason": reason, "why": why},
            )

    def put(self, client: Any, queue: str, raw: bytes, *, reason: str) -> None:
        """Keep a message's text, up to a size, for whoever looks for its sender."""
        key = f"{queue}.malformed"
        with client.pipeline() as pipe:
            pipe.lpush(key, raw[:MAX_MALFORMED_BYTES])
            pipe.ltrim(self._key_prefix + key, 0, MAX_MALFORMED - 1)
            pipe.hincrby(f"{self._key_prefix}{key}.counts", reason, 1)
            pipe.execute()
