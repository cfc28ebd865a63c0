"""Budgets of one process: the same rules as `redis_budget`, without Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import time

from orchestrator.budget import DAY_SECONDS, Account, Amount, Reservation, Spent

_Key = tuple[str, str, str, int]


@dataclass
class _Ledger:
    spent: Amount = field(default_factory=Amount)
    open: dict[str, Amount] = field(default_factory=dict)

    def add(self, amount: Amount, *, sign: int = 1) -> None:
        self.spent = Amount(
            self.spent.tokens + sign * amount.tokens,
            self.spent.micros + sign * amount.micros,
        )


class InMemoryBudget:
    """Accounts of one process, all on one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time) -> None:
        self._now = clock
        self._ledgers: dict[_Key, _Ledger] = {}

    async def reserve(
        self, tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
    ) -> Reservation | Spent:
        day = self._today()
        ledgers = [self._ledger(tenant, account, day) for account in accounts]
        reservation = Reservation(tenant, token, accounts, amount, day)
        if any(token in ledger.open for ledger in ledgers):
            return reservation
        for account, ledger in zip(accounts, ledgers, strict=True):
            if not _fits(account, ledger.spent, amount):
                return Spent(account, ledger.spent)
        for ledger in ledgers:
            ledger.add(amount)
            ledger.open[token] = amount
        return reservation

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        for account in reservation.accounts:
            ledger = self._ledger(reservation.tenant, account, reservation.day)
            reserved = ledger.open.pop(reservation.token, None)
            if reserved is not None:
                ledger.add(reserved, sign=-1)
                ledger.add(amount)

    async def spent(self, tenant: str, account: Account) -> Amount:
        return self._ledger(tenant, account, self._today()).spent

    async def aclose(self) -> None:
        """Nothing is open."""

    def _today(self) -> int:
        return int(self._now() // DAY_SECONDS)

    def _ledger(self, tenant: str, account: Account, day: int) -> _Ledger:
        key = (tenant, account.kind, account.name, day if account.daily else 0)
        return self._ledgers.setdefault(key, _Ledger())


def _fits(account: Account, spent: Amount, amount: Amount) -> bool:
    pairs = (
        (account.max_tokens, spent.tokens + amount.tokens),
        (account.max_micros, spent.micros + amount.micros),
    )
    return all(most is None or total <= most for most, total in pairs)
