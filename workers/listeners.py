"""Whether anybody listens to this worker's events. Knows no broker and no clock.

Redis tells how many took a message. When many in a row in a short time had no
listener, events are dropped for a moment, and again after each one that is for nobody
as long as the flood goes on; who begins to listen misses no more than such a moment.
"""

from __future__ import annotations

import math
from collections import deque

UNHEARD_BATCHES = 10
UNHEARD_SECONDS = 1.0
SILENCE_SECONDS = 0.25


class Listeners:
    """What is known of who listens, from what was heard."""

    def __init__(self) -> None:
        self._unheard: deque[float] = deque(maxlen=UNHEARD_BATCHES)
        self._silent_until = -math.inf

    def are_absent(self, now: float) -> bool:
        """Whether to drop what would be sent now."""
        return now < self._silent_until

    def note(self, *, heard: bool, now: float) -> None:
        """Take how one batch of events fared."""
        if heard:
            self._unheard.clear()
            self._silent_until = -math.inf
            return
        self._unheard.append(now)
        is_full = len(self._unheard) == UNHEARD_BATCHES
        is_flood = is_full and now - self._unheard[0] < UNHEARD_SECONDS
        goes_on = now - self._silent_until < UNHEARD_SECONDS
        if is_flood or goes_on:
            self._silent_until = now + SILENCE_SECONDS
