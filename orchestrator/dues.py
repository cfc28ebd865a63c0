"""What stands before a completion and what it owes when it is over.

Before: a way through its gate and its part of a budget, both or neither. The script
that marks its step as begun takes them along. Afterwards the script that records the
step gives the permit back and settles the reservation. So neither costs a round trip,
and whoever finds a step finds both paid. What has no step, or does not come to it,
goes to a `Toll`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from orchestrator.budget import Account, Amount, Reservation, Spent
from orchestrator.gate import Caller, Departure, GateLimits, Permit, Wait


class Entry(NamedTuple):
    """A gate, and who is to pass it."""

    gate: str
    limits: GateLimits
    caller: Caller


class Hold(NamedTuple):
    """What is to be reserved, and of which accounts."""

    tenant: str
    token: str
    """Names this one wish; asking again with it takes nothing more."""
    accounts: tuple[Account, ...]
    amount: Amount


class Needs(NamedTuple):
    """Of one completion, before it is made."""

    entry: Entry | None = None
    hold: Hold | None = None


class Admitted(NamedTuple):
    """What a completion holds from now on."""

    permit: Permit | None = None
    reservation: Reservation | None = None


Admission = Admitted | Wait | Spent
"""What is answered to a completion that asks to begin."""


class Dues(NamedTuple):
    """Of one completion; paying them twice changes nothing."""

    permit: Permit | None = None
    departure: Departure | None = None
    """What is told to the gate; there where the permit is."""
    reservation: Reservation | None = None
    amount: Amount | None = None
    """What was taken; there where the reservation is."""

    @property
    def are_none(self) -> bool:
        """Whether nothing is owed."""
        return self.permit is None and self.reservation is None


class Toll(Protocol):
    """Whom a call without a step asks before it is made, and pays when it is over."""

    async def admit(self, needs: Needs) -> Admission:
        """Take a permit and a reservation, in one change, or neither.

        Who has to wait gets a place among those who do. Repeating it with the same
        tokens keeps that place, and takes nothing more than what it has taken.

        Raises:
            StoreUnavailable: nothing is known.
        """
        ...

    async def take_back(self, needs: Needs) -> None:
        """Have nothing of what was asked for, be it granted, waited for or on its way.

        For who asks no more: an admission with the same tokens grants nothing from now
        on. A permit that was granted returns, its call stays counted; a task that
        waited keeps its place, and room that it is owed, for a while.

        Raises:
            StoreUnavailable: nothing is known; take it back again.
        """
        ...

    async def pay(self, dues: Dues) -> None:
        """Give the permit back and settle, in one change.

        Raises:
            StoreUnavailable: nothing is known; pay again.
        """
        ...
