"""Whether anybody listens to this worker's events. Knows no broker and no clock.

Redis tells how many took a message. When many in a row in a short time had no
listener, events are dropped for a moment; who begins to listen misses no more.
"""

from __future__ import annotations

from collections import deque

UNHEARD_BATCHES = 10
UNHEARD_SECONDS = 1.0
SILENCE_SECONDS = 0.25


class Listeners:
    """What is known of who listens, from what was heard."""

    def __init__(self) -> None:
        self._unheard: deque[float] = deque(maxlen=UNHEARD_BATCHES)
        self._silent_until = 0.0

    def are_absent(self, now: float) -> bool:
        """Whether to drop what would be sent now."""
        return now < self._silent_until

    def note(self, *, heard: bool, now: float) -> None:
        """Take how one batch of events fared."""
        if heard:
            self._unheard.clear()
            return
        self._unheard.append(now)
        is_full = len(self._unheard) == UNHEARD_BATCHES
        if is_full and now - self._unheard[0] < UNHEARD_SECONDS:
            self._silent_until = now + SILENCE_SECONDS
