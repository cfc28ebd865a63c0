"""Budgets on Redis, for all workers; each call is one script and one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.budget import KEEP_SECONDS, Account, Amount, Reservation, Spent
from orchestrator.redis_scripts import RedisScripts, read_script
from orchestrator.task_record import milliseconds

_KEEP_MS = milliseconds(KEEP_SECONDS)


class RedisBudget:
    """Accounts of a fleet."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        text = read_script("basics") + budget_functions() + read_script("budget_spent")
        self._scripts = RedisScripts(client, sources={"budget_spent": text})

    async def spent(self, tenant: str, account: Account) -> Amount:
        tokens, micros = await self._scripts.run(
            "budget_spent", account_keys(tenant, (account,)), [int(account.daily)]
        )
        return Amount(int(tokens), int(micros))

    async def aclose(self) -> None:
        await self._client.aclose()


def budget_functions(*names: str) -> str:
    """Return Lua functions of budgets; they stand after basics.lua."""
    return "".join(map(read_script, ("budget", *names)))


def reserving(token: str, accounts: tuple[Account, ...], amount: Amount) -> str:
    """Return what a script is given that reserves an amount."""
    tokens, micros = amount
    bounds = " ".join([account.text for account in accounts])
    return f"{token} {tokens} {micros} {_KEEP_MS} {bounds}"


def read_spent(accounts: tuple[Account, ...], answer: Sequence[Any]) -> Spent:
    """Return which account it did not fit into."""
    _, place, tokens, micros = answer
    return Spent(accounts[place - 1], Amount(int(tokens), int(micros)))


def settling(reservation: Reservation, amount: Amount) -> str:
    """Return what a script is given that settles a reservation."""
    _, token, accounts, _, day = reservation
    tokens, micros = amount
    daily = " ".join(["1" if account.daily else "0" for account in accounts])
    return f"{token} {tokens} {micros} {day} {daily}"


def account_keys(tenant: str, accounts: tuple[Account, ...]) -> list[str]:
    return [redis_keys.budget(tenant, each.kind, each.name) for each in accounts]
