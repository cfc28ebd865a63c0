"""Dues on Redis: the gate's and the budget's own scripts as parts of a step's."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from orchestrator.dues import Dues
from orchestrator.redis_budget import settle_call
from orchestrator.redis_gate import leave_call
from orchestrator.redis_scripts import RedisScripts, ScriptCall, read_script

_PARTS: Final = {"gate_leave": "gate", "budget_settle": "budget"}
"""Script → what it shares with its kind; each becomes a function of its name."""


class RedisPayee:
    """Takes dues in one script and one round trip."""

    def __init__(self, client: Redis) -> None:
        source = paying_functions() + read_script("pay_dues")
        self._scripts = RedisScripts(client, sources={"pay_dues": source})

    async def pay(self, dues: Dues) -> None:
        if not dues.are_none:
            await self._scripts.run("pay_dues", *payment(dues))


def paying_functions() -> str:
    """Return the Lua functions with which a script pays dues."""
    functions = (
        f"local function {name}(KEYS, ARGV)\n"
        f"{read_script(shared)}{read_script(name)}end\n"
        for name, shared in _PARTS.items()
    )
    return "".join([*functions, read_script("dues")])


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
