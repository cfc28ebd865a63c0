"""Budgets on Redis, for all workers; each call is one script and one round trip."""

from __future__ import annotations

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.budget import KEEP_SECONDS, Account, Amount, Reservation, Spent
from orchestrator.redis_scripts import RedisScripts, ScriptCall, read_script
from orchestrator.task_record import milliseconds

_SCRIPTS = ("budget_reserve", "budget_settle", "budget_spent")


class RedisBudget:
    """Accounts of a fleet."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        shared = read_script("budget")
        self._scripts = RedisScripts(
            client, sources={name: shared + read_script(name) for name in _SCRIPTS}
        )

    async def reserve(
        self, tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
    ) -> Reservation | Spent:
        arguments: list[str | int] = [token, *amount, milliseconds(KEEP_SECONDS)]
        for account in accounts:
            most = (account.max_tokens, account.max_micros)
            arguments += [int(account.daily), *(-1 if n is None else n for n in most)]
        keys = _keys(tenant, accounts)
        kind, *facts = await self._scripts.run("budget_reserve", keys, arguments)
        if kind == "reserved":
            return Reservation(tenant, token, accounts, amount, int(facts[0]))
        place, tokens, micros = map(int, facts)
        return Spent(accounts[place - 1], Amount(tokens, micros))

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        await self._scripts.run_many([settle_call(reservation, amount)])

    async def spent(self, tenant: str, account: Account) -> Amount:
        tokens, micros = await self._scripts.run(
            "budget_spent", _keys(tenant, (account,)), [int(account.daily)]
        )
        return Amount(int(tokens), int(micros))

    async def aclose(self) -> None:
        await self._client.aclose()


def settle_call(reservation: Reservation, amount: Amount) -> ScriptCall:
    """Return the call that settles a reservation."""
    arguments: list[str | int] = [reservation.token, *amount, reservation.day]
    arguments += [int(account.daily) for account in reservation.accounts]
    keys = _keys(reservation.tenant, reservation.accounts)
    return ScriptCall("budget_settle", keys, arguments)


def _keys(tenant: str, accounts: tuple[Account, ...]) -> list[str]:
    return [redis_keys.budget(tenant, each.kind, each.name) for each in accounts]
