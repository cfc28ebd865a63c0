"""What only the budget in memory must do itself: forget, as Redis does by itself."""

from __future__ import annotations

from orchestrator.budget import DAY_SECONDS, KEEP_SECONDS, Account, Amount
from orchestrator.memory_budget import InMemoryBudget

DAY = Account(kind="tenant", name="acme", daily=True)


async def test_accounts_of_days_go_when_nobody_has_touched_them_for_long() -> None:
    """A task's stays as long as the task: it may be parked for longer."""
    now = 100.0 * DAY_SECONDS
    budget = InMemoryBudget(clock=lambda: now)

    async def spend(name: str) -> None:
        held = await budget.reserve("acme", name, (task(name), DAY), Amount(tokens=4))
        await budget.settle(held, Amount(tokens=3))

    async def spent(name: str) -> int:
        return (await budget.spent("acme", task(name))).tokens

    await spend("parked")
    await spend("gone")
    budget.forget("acme", "gone")
    now += KEEP_SECONDS + DAY_SECONDS
    await spend("new")
    assert [await spent(name) for name in ("parked", "gone", "new")] == [3, 0, 3]
    assert sorted(key[2] for key in budget._ledgers) == ["acme", "new", "parked"]


def task(name: str) -> Account:
    return Account(kind="task", name=name, max_tokens=10)
