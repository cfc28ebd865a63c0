"""Needs and dues on Redis: the gate's and the budget's scripts as parts of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from orchestrator.budget import Reservation
from orchestrator.dues import Admission, Admitted, Dues, Needs
from orchestrator.gate import LEASE_SECONDS, Permit, Wait
from orchestrator.redis_budget import (
    budget_script,
    read_spent,
    reserve_call,
    settle_call,
)
from orchestrator.redis_gate import enter_call, gate_script, leave_call, read_entry
from orchestrator.redis_scripts import RedisScripts, ScriptCall, read_script
from orchestrator.task_record import milliseconds

_LEASE_MS: Final = milliseconds(LEASE_SECONDS)
_OF_KIND: Final = {"gate": gate_script, "budget": budget_script}


class RedisToll:
    """Admits and is paid, each in one script and one round trip."""

    def __init__(self, client: Redis, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._lease_ms = milliseconds(lease_seconds)
        sources = {
            "admit": admitting_functions() + read_script("admit"),
            "pay_dues": paying_functions() + read_script("pay_dues"),
        }
        self._scripts = RedisScripts(client, sources=sources)

    async def admit(self, needs: Needs) -> Admission:
        keys, arguments = requirement(needs, lease_ms=self._lease_ms)
        answer = await self._scripts.run("admit", keys, arguments)
        return read_admission(needs, answer)

    async def pay(self, dues: Dues) -> None:
        if not dues.are_none:
            await self._scripts.run("pay_dues", *payment(dues))


def admitting_functions() -> str:
    """Return the Lua functions with which a script lets a call begin."""
    names = ("gate_enter", "budget_reserve", "budget_settle")
    return _functions(names) + read_script("admission")


def paying_functions() -> str:
    """Return the Lua functions with which a script pays dues."""
    return _functions(("gate_leave", "budget_settle")) + read_script("dues")


def _functions(names: Iterable[str]) -> str:
    """Return scripts as functions of their names."""
    texts = ((name, _OF_KIND[name.partition("_")[0]](name)) for name in names)
    return "".join(
        f"local function {name}(KEYS, ARGV)\n{text}end\n" for name, text in texts
    )


def requirement(
    needs: Needs, *, lease_ms: int = _LEASE_MS
) -> tuple[list[str], list[str | int]]:
    """Return the keys and the arguments that an admitting script is given."""
    keys: list[str] = []
    arguments: list[str | int] = []
    for call in (
        enter_call(*needs.entry, lease_ms=lease_ms) if needs.entry else None,
        reserve_call(*needs.hold) if needs.hold else None,
    ):
        if call is None:
            arguments.append(0)
        else:
            keys += call.keys
            arguments += [len(call.arguments), *call.arguments]
    return keys, arguments


def read_admission(needs: Needs, answer: Sequence[Any]) -> Admission:
    """Return what the answer of such a script says."""
    kind, *facts = answer
    entry, hold = needs
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


def payment(dues: Dues | None) -> tuple[list[str], list[str | int]]:
    """Return the keys and the arguments that a paying script is given for them."""
    calls = list(_calls(dues)) if dues is not None else []
    keys: list[str] = []
    arguments: list[str | int] = [len(calls)]
    for call in calls:
        keys += call.keys
        arguments += [call.name, len(call.keys), len(call.arguments), *call.arguments]
    return keys, arguments


def _calls(dues: Dues) -> list[ScriptCall]:
    calls = []
    if dues.permit is not None and dues.departure is not None:
        calls.append(leave_call(dues.permit, dues.departure))
    if dues.reservation is not None and dues.amount is not None:
        calls.append(settle_call(dues.reservation, dues.amount))
    return calls
