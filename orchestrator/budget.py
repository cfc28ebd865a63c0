"""What tasks, agents and tenants may spend: tokens, and money in millionths.

A call reserves the most that it may take before it is made, and is settled to what it
took. A reservation that is never settled counts as spent: its call may have been paid.
`redis_budget` serves all workers, `memory_budget` one process; one suite tests both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, Protocol

DAY_SECONDS: Final = 86_400
KEEP_SECONDS: Final = 8 * DAY_SECONDS
"""A day's account that nobody touched for so long is forgotten; a task's goes with its
task."""


class Amount(NamedTuple):
    """Tokens and money."""

    tokens: int = 0
    micros: int = 0
    """Millionths of your currency."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who spends, and at most how much; None sets no bound."""

    kind: Literal["task", "agent", "tenant"]
    name: str
    daily: bool = False
    """It begins anew each day, by UTC."""
    max_tokens: int | None = None
    max_micros: int | None = None

    @cached_property
    def text(self) -> str:
        """Whether it is a day's, and its bounds in tokens and micros; -1 is none."""
        most = (-1 if n is None else n for n in (self.max_tokens, self.max_micros))
        return " ".join(map(str, (int(self.daily), *most)))


class Reservation(NamedTuple):
    """What a call may take from its accounts."""

    tenant: str
    token: str
    accounts: tuple[Account, ...]
    amount: Amount
    day: int
    """Days since 1970, when it was made."""


class Spent(NamedTuple):
    """The first account that a reservation does not fit into; nothing was taken."""

    account: Account
    amount: Amount
    """What it has spent, open reservations included."""


class Budget(Protocol):
    """Keeps accounts of which a `Toll` reserves. The day comes from its own clock."""

    async def spent(self, tenant: str, account: Account) -> Amount:
        """Return what an account has spent, open reservations included."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
