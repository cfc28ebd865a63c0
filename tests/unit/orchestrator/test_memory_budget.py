"""What only the budget in memory must do itself: forget, as Redis does by itself."""

from __future__ import annotations

from orchestrator.budget import DAY_SECONDS, KEEP_SECONDS, Account, Amount
from orchestrator.memory_budget import InMemoryBudget

DAY = Account(kind="tenant", name="acme", daily=True)


async def test_accounts_that_nobody_has_touched_for_long_are_forgotten() -> None:
    now = 100.0 * DAY_SECONDS
    budget = InMemoryBudget(clock=lambda: now)

    async def spend(name: str) -> None:
        task = Account(kind="task", name=name, max_tokens=10)
        held = await budget.reserve("acme", name, (task, DAY), Amount(tokens=4))
        await budget.settle(held, Amount(tokens=3))

    async def spent(name: str) -> int:
        account = Account(kind="task", name=name, max_tokens=10)
        return (await budget.spent("acme", account)).tokens

    await spend("old")
    await spend("kept")
    now += KEEP_SECONDS - 10
    await spend("kept")
    now += 10
    await spend("new")
    assert [await spent(name) for name in ("old", "kept", "new")] == [0, 6, 3]
    kept = {key[2] for key in budget._ledgers}
    assert kept == {"kept", "new", "acme"}
    assert len(budget._ledgers) == 4
