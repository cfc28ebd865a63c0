"""The gate on Redis, for all workers; each call is one script and one round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, cast

from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.gate import (
    FAILURES_TO_OPEN,
    FIRST_COOL_DOWN_SECONDS,
    LEASE_SECONDS,
    LONGEST_COOL_DOWN_SECONDS,
    LONGEST_WAIT_SECONDS,
    MOST_OWED,
    MOST_SHARES,
    PLACE_SECONDS,
    PROBE_SECONDS,
    ROOM_SECONDS,
    ROOM_WINDOWS,
    WAITER_SECONDS,
    WINDOW_PARTS,
    Caller,
    Departure,
    GateLimits,
    GateState,
    Permit,
    Wait,
    WaitReason,
    park_seconds,
)
from orchestrator.redis_connection import address_of, store_errors
from orchestrator.redis_scripts import RedisScripts, ScriptCall, Texts, read_script
from orchestrator.task_record import milliseconds

LISTEN_SECONDS = 5.0
"""Between two looks for whether to go on; a word is heard at once."""
_LEASE_MS = milliseconds(LEASE_SECONDS)
_CONSTANTS = {
    "PARTS": WINDOW_PARTS,
    "MOST_OWED": MOST_OWED,
    "MOST_SHARES": MOST_SHARES,
    "WAITER_MS": milliseconds(WAITER_SECONDS),
    "ROOM_MS": milliseconds(ROOM_SECONDS),
    "ROOM_WINDOWS": ROOM_WINDOWS,
    "PLACE_MS": milliseconds(PLACE_SECONDS),
    "FAILURES_TO_OPEN": FAILURES_TO_OPEN,
    "PROBE_MS": milliseconds(PROBE_SECONDS),
    "FIRST_COOL_MS": milliseconds(FIRST_COOL_DOWN_SECONDS),
    "LONGEST_COOL_MS": milliseconds(LONGEST_COOL_DOWN_SECONDS),
    "TURNS": f"'{redis_keys.GATE_TURNS}'",
}
_SCRIPTS = ("gate_report", "gate_renew", "gate_state")


class RedisGate:
    """Gates of a fleet; they know no tenant's data but its name."""

    def __init__(self, client: Redis, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._client = client
        self._lease_ms = milliseconds(lease_seconds)
        self._scripts = RedisScripts(client, sources=Texts(_SCRIPTS, _composed))

    async def report(self, gate: str, departure: Departure) -> None:
        told = leaving(Permit(gate, "-", 0, 0), departure)
        await self._scripts.run("gate_report", [redis_keys.gate(gate)], [told])

    async def renew(self, permits: tuple[Permit, ...]) -> None:
        calls = [
            ScriptCall(
                "gate_renew",
                [redis_keys.gate(gate)],
                [self._lease_ms, *(permit.token for permit in held)],
            )
            for gate, held in groupby(sorted(permits), key=lambda each: each.gate)
        ]
        if calls:
            await self._scripts.run_many(calls)

    async def listen(self, told: Callable[[str], None]) -> None:
        with store_errors(address_of(self._client)):
            async with self._client.pubsub() as turns:
                await turns.subscribe(redis_keys.GATE_TURNS)
                while True:
                    message = await turns.get_message(
                        ignore_subscribe_messages=True, timeout=LISTEN_SECONDS
                    )
                    for token in str(message["data"]).split() if message else ():
                        told(token)

    async def state(self, gate: str, limits: GateLimits) -> GateState:
        keys = [redis_keys.gate(gate)]
        answer = await self._scripts.run("gate_state", keys, [limits.part_ms])
        in_flight, waiting, requests, tokens, closed_ms, reason = answer
        return GateState(
            in_flight=int(in_flight),
            waiting=int(waiting),
            requests=int(requests),
            tokens=int(tokens),
            closed_for_seconds=int(closed_ms) / 1000,
            closed_by=cast("WaitReason", reason) if reason else None,
        )

    async def aclose(self) -> None:
        await self._client.aclose()


def _composed(name: str) -> str:
    functions = read_script("basics") + gate_functions("gate_leave")
    return functions + read_script(name)


def gate_functions(*names: str) -> str:
    """Return Lua functions of the gate; they stand after basics.lua."""
    constants = "".join(f"local {key} = {value}\n" for key, value in _CONSTANTS.items())
    return constants + "".join(map(read_script, ("gate", *names)))


def entering(limits: GateLimits, caller: Caller, *, lease_ms: int) -> str:
    """Return what a script is given that takes a permit, or a place among waiters."""
    token, _, _, priority, tokens = caller
    return f"{token} {priority} {tokens} {lease_ms} {limits.text}"


def read_entry(gate: str, caller: Caller, answer: Sequence[Any]) -> Permit | Wait:
    """Return what the answer of such a script says."""
    kind, *facts = answer
    if kind == "permit":
        return Permit(gate, caller.token, int(facts[0]), caller.tokens)
    reason, ms, waiters, closed_ms = facts
    seconds = int(ms) / 1000
    return Wait(
        seconds=seconds,
        reason=reason,
        park_seconds=park_seconds(seconds, waiters=int(waiters)),
        closed_seconds=int(closed_ms) / 1000,
    )


def leaving(permit: Permit, departure: Departure) -> str:
    """Return what a script is given that gives a permit back."""
    _, token, part, counted = permit
    outcome, tokens, wait = departure
    taken = "-" if tokens is None else tokens
    if wait is None:
        return f"{token} {part} {counted} {taken} {outcome} -"
    wait_ms = milliseconds(min(wait, LONGEST_WAIT_SECONDS))
    return f"{token} {part} {counted} {taken} {outcome} {wait_ms}"
