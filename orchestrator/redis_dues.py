"""Needs and dues on Redis: the gate's and the budget's scripts as parts of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.budget import Reservation
from orchestrator.dues import Admission, Admitted, Dues, Needs
from orchestrator.gate import LEASE_SECONDS, Permit, Wait
from orchestrator.redis_budget import (
    account_keys,
    budget_functions,
    read_spent,
    reserving,
    settling,
)
from orchestrator.redis_gate import entering, gate_functions, leaving, read_entry
from orchestrator.redis_scripts import RedisScripts, Texts, read_script
from orchestrator.task_record import milliseconds

_SCRIPTS: Final = ("admit", "take_back", "pay_dues")
_LEASE_MS: Final = milliseconds(LEASE_SECONDS)
_WITHDRAWN_MS: Final = 60_000
"""An admission that is on its way for longer than this comes no more: connections time
out much sooner."""


class RedisToll:
    """Admits and is paid, each in one script and one round trip."""

    def __init__(self, client: Redis, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._lease_ms = milliseconds(lease_seconds)
        self._scripts = RedisScripts(client, sources=Texts(_SCRIPTS, _composed))

    async def admit(self, needs: Needs) -> Admission:
        keys, wanted = requirement(needs, lease_ms=self._lease_ms)
        caller = needs.entry.caller if needs.entry else None
        task = (
            (caller.tenant, redis_keys.member(caller.tenant, caller.task_id))
            if caller
            else ("", "")
        )
        answer = await self._scripts.run("admit", keys, [*wanted, *task])
        return read_admission(needs, answer)

    async def take_back(self, needs: Needs) -> None:
        keys, wanted = requirement(needs, lease_ms=self._lease_ms)
        await self._scripts.run("take_back", keys, [*wanted, _WITHDRAWN_MS])

    async def pay(self, dues: Dues) -> None:
        if not dues.are_none:
            keys, owed = payment(dues)
            await self._scripts.run("pay_dues", keys, [owed])


def _composed(name: str) -> str:
    functions = paying_functions if name == "pay_dues" else admitting_functions
    return read_script("basics") + functions() + read_script(name)


def admitting_functions() -> str:
    """Return the Lua functions with which a script lets a call begin."""
    gate = gate_functions("gate_room", "gate_enter")
    budget = budget_functions("budget_reserve", "budget_settle")
    constant = f"local WITHDRAWN = '{redis_keys.WITHDRAWN}'\n"
    return gate + budget + constant + read_script("admission")


def paying_functions() -> str:
    """Return the Lua functions with which a script pays dues."""
    gate, budget = gate_functions("gate_leave"), budget_functions("budget_settle")
    return gate + budget + read_script("dues")


def requirement(
    needs: Needs, *, lease_ms: int = _LEASE_MS
) -> tuple[list[str], tuple[str, str]]:
    """Return the keys and the arguments that an admitting script is given."""
    keys: list[str] = []
    entry = hold = ""
    if needs.entry is not None:
        gate, limits, caller = needs.entry
        keys = [redis_keys.gate(gate)]
        entry = entering(limits, caller, lease_ms=lease_ms)
    if needs.hold is not None:
        tenant, token, accounts, amount = needs.hold
        keys += account_keys(tenant, accounts)
        hold = reserving(token, accounts, amount)
    return keys, (entry, hold)


def read_admission(needs: Needs, answer: Sequence[Any]) -> Admission:
    """Return what the answer of such a script says."""
    kind, *facts = answer
    entry, hold = needs
    if kind == "withdrawn":
        raise RuntimeError("a call that was taken back asks no more")
    if kind == "spent" and hold is not None:
        return read_spent(hold.accounts, answer)
    if kind == "wait" and entry is not None:
        wait = read_entry(entry.gate, entry.caller, answer)
        if isinstance(wait, Wait):
            return wait
    part, day = facts
    return Admitted(
        entry and Permit(entry.gate, entry.caller.token, part, entry.caller.tokens),
        hold and Reservation(*hold, day),
    )


def payment(dues: Dues | None) -> tuple[list[str], str]:
    """Return the keys and the argument that a paying script is given for them."""
    keys: list[str] = []
    if dues is None:
        return keys, ""
    permit, departure, reservation, amount = dues
    left = settled = ""
    if permit is not None and departure is not None:
        keys = [redis_keys.gate(permit.gate)]
        left = leaving(permit, departure)
    if reservation is not None and amount is not None:
        keys += account_keys(reservation.tenant, reservation.accounts)
        settled = settling(reservation, amount)
    return keys, f"{left}\n{settled}"
