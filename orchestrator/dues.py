"""What a completion still owes when it is over.

Its permit is given back and its reservation settled by the script that records its
step: that costs no round trip, and whoever finds the step finds both paid. What has no
step, or does not come to it, is paid by a `Payee`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from orchestrator.budget import Amount, Budget, Reservation
from orchestrator.gate import Departure, Gate, Permit


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


class Payee(Protocol):
    """Whom dues are paid to without a step."""

    async def pay(self, dues: Dues) -> None:
        """Give the permit back and settle, in one change.

        Raises:
            StoreUnavailable: nothing is known; pay again.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class InMemoryPayee:
    """The `Payee` of a gate and a budget in this process."""

    gate: Gate
    budget: Budget

    async def pay(self, dues: Dues) -> None:
        if dues.permit is not None and dues.departure is not None:
            await self.gate.leave(dues.permit, dues.departure)
        if dues.reservation is not None and dues.amount is not None:
            await self.budget.settle(dues.reservation, dues.amount)
