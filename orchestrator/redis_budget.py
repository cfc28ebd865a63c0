"""Budgets on Redis, for all workers; each call is one script and one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.budget import KEEP_SECONDS, Account, Amount, Reservation, Spent
from orchestrator.redis_scripts import RedisScripts, ScriptCall, read_script
from orchestrator.task_record import milliseconds

_KEEP_MS = milliseconds(KEEP_SECONDS)
_SCRIPTS = ("budget_settle", "budget_spent")


class RedisBudget:
    """Accounts of a fleet."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        sources = {name: budget_script(name) for name in _SCRIPTS}
        self._scripts = RedisScripts(client, sources=sources)

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        await self._scripts.run_many([settle_call(reservation, amount)])

    async def spent(self, tenant: str, account: Account) -> Amount:
        tokens, micros = await self._scripts.run(
            "budget_spent", _keys(tenant, (account,)), [int(account.daily)]
        )
        return Amount(int(tokens), int(micros))

    async def aclose(self) -> None:
        await self._client.aclose()


def budget_script(name: str) -> str:
    """Return the text of a budget's script, with all that it stands after."""
    return read_script("budget") + read_script(name)


def reserve_call(
    tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
) -> ScriptCall:
    """Return the call that reserves an amount."""
    arguments: list[str | int] = [token, *amount, _KEEP_MS]
    for account in accounts:
        most = (account.max_tokens, account.max_micros)
        arguments += [int(account.daily), *(-1 if n is None else n for n in most)]
    return ScriptCall("budget_reserve", _keys(tenant, accounts), arguments)


def read_spent(accounts: tuple[Account, ...], answer: Sequence[Any]) -> Spent:
    """Return which account such a call did not fit into."""
    _, place, tokens, micros = answer
    return Spent(accounts[place - 1], Amount(int(tokens), int(micros)))


def settle_call(reservation: Reservation, amount: Amount) -> ScriptCall:
    """Return the call that settles a reservation."""
    arguments: list[str | int] = [reservation.token, *amount, reservation.day]
    arguments += [int(account.daily) for account in reservation.accounts]
    keys = _keys(reservation.tenant, reservation.accounts)
    return ScriptCall("budget_settle", keys, arguments)


def _keys(tenant: str, accounts: tuple[Account, ...]) -> list[str]:
    return [redis_keys.budget(tenant, each.kind, each.name) for each in accounts]
