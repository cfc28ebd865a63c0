"""Budgets of one process: the same rules as `redis_budget`, without Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import time

from orchestrator.budget import (
    DAY_SECONDS,
    KEEP_SECONDS,
    Account,
    Amount,
    Reservation,
    Spent,
)

_Key = tuple[str, str, str, int]
"""Tenant, kind, name, and the day, which is 0 where it is of none."""


@dataclass
class _Ledger:
    spent: Amount = field(default_factory=Amount)
    open: dict[str, Amount] = field(default_factory=dict)
    touched_at: float = 0.0

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
        self._tidied_on = self._today()

    async def reserve(
        self, tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
    ) -> Reservation | Spent:
        """Take an amount from every account, or from none."""
        self._tidy()
        begun = self._day_of(tenant, token, accounts)
        day = self._today() if begun is None else begun
        reservation = Reservation(tenant, token, accounts, amount, day)
        if begun is not None:
            return reservation
        ledgers = [self._ledger(tenant, account, day) for account in accounts]
        for account, ledger in zip(accounts, ledgers, strict=True):
            if not _fits(account, ledger.spent, amount):
                return Spent(account, ledger.spent)
        for ledger in ledgers:
            ledger.add(amount)
            ledger.open[token] = amount
            ledger.touched_at = self._now()
        return reservation

    async def take_back(
        self, tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
    ) -> None:
        """Undo a reservation, if it was made."""
        day = self._day_of(tenant, token, accounts)
        if day is not None:
            made = Reservation(tenant, token, accounts, amount, day)
            await self.settle(made, Amount())

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        for account in reservation.accounts:
            key = _key(reservation.tenant, account, reservation.day)
            ledger = self._ledgers.get(key)
            reserved = ledger.open.pop(reservation.token, None) if ledger else None
            if ledger is not None and reserved is not None:
                ledger.add(reserved, sign=-1)
                ledger.add(amount)

    async def spent(self, tenant: str, account: Account) -> Amount:
        found = self._ledgers.get(_key(tenant, account, self._today()))
        return found.spent if found else Amount()

    def forget(self, tenant: str, task_id: str) -> None:
        """Drop the account of a task that is gone."""
        self._ledgers.pop((tenant, "task", task_id, 0), None)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _tidy(self) -> None:
        """Forget, once a day, accounts of days that nobody has touched for long."""
        if self._tidied_on == self._today():
            return
        self._tidied_on = self._today()
        oldest = self._now() - KEEP_SECONDS
        self._ledgers = {
            key: ledger
            for key, ledger in self._ledgers.items()
            if ledger.touched_at > oldest or not key[-1]
        }

    def _today(self) -> int:
        return int(self._now() // DAY_SECONDS)

    def _day_of(
        self, tenant: str, token: str, accounts: tuple[Account, ...]
    ) -> int | None:
        """Return when a token was reserved; a repeat may come after midnight."""
        today = self._today()
        for account in sorted(accounts, key=lambda each: not each.daily):
            for day in (today, today - 1) if account.daily else (today,):
                ledger = self._ledgers.get(_key(tenant, account, day))
                if ledger is not None and token in ledger.open:
                    return day
        return None

    def _ledger(self, tenant: str, account: Account, day: int) -> _Ledger:
        return self._ledgers.setdefault(_key(tenant, account, day), _Ledger())


def _key(tenant: str, account: Account, day: int) -> _Key:
    return (tenant, account.kind, account.name, day if account.daily else 0)


def _fits(account: Account, spent: Amount, amount: Amount) -> bool:
    pairs = (
        (account.max_tokens, spent.tokens + amount.tokens),
        (account.max_micros, spent.micros + amount.micros),
    )
    return all(most is None or total <= most for most, total in pairs)
