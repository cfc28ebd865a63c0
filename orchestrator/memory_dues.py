"""The toll of one process: what `redis_dues` does, without Redis."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.budget import Amount, Spent
from orchestrator.dues import Admission, Admitted, Dues, Needs
from orchestrator.gate import Wait
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_gate import InMemoryGate


@dataclass(frozen=True, kw_only=True)
class InMemoryToll:
    """The `Toll` of a gate and a budget in this process."""

    gate: InMemoryGate = field(default_factory=InMemoryGate)
    budget: InMemoryBudget = field(default_factory=InMemoryBudget)

    async def admit(self, needs: Needs) -> Admission:
        held = await self.budget.reserve(*needs.hold) if needs.hold else None
        if isinstance(held, Spent):
            return held
        passed = await self.gate.enter(*needs.entry) if needs.entry else None
        if isinstance(passed, Wait):
            if held is not None:
                await self.budget.settle(held, Amount())
            return passed
        return Admitted(passed, held)

    async def take_back(self, needs: Needs) -> None:
        """No admission is on its way: here each is one turn of the loop."""
        if needs.entry is not None:
            await self.gate.withdraw(needs.entry.gate, needs.entry.caller)
        if needs.hold is not None:
            await self.budget.take_back(*needs.hold)

    async def pay(self, dues: Dues) -> None:
        if dues.permit is not None and dues.departure is not None:
            await self.gate.leave(dues.permit, dues.departure)
        if dues.reservation is not None and dues.amount is not None:
            await self.budget.settle(dues.reservation, dues.amount)
