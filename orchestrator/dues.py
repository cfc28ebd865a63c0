"""What a completion still owes when its step is recorded.

Its permit is given back and its reservation settled by the script that records the
step: that costs no round trip, and whoever finds the step finds both paid.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.budget import Amount, Budget, Reservation
from orchestrator.gate import Departure, Gate, Permit


@dataclass(frozen=True, kw_only=True)
class Dues:
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


@dataclass(frozen=True, kw_only=True)
class Payee:
    """Whom dues are paid to by one call each, where no script does it."""

    gate: Gate
    budget: Budget

    async def pay(self, dues: Dues) -> None:
        """Give the permit back and settle.

        Raises:
            StoreUnavailable: a permit runs out by itself; a reservation stays spent.
        """
        if dues.permit is not None and dues.departure is not None:
            await self.gate.leave(dues.permit, dues.departure)
        if dues.reservation is not None and dues.amount is not None:
            await self.budget.settle(dues.reservation, dues.amount)
