"""What only the gate in memory must do itself: forget, as Redis does by itself."""

from __future__ import annotations

from orchestrator.gate import (
    MOST_SHARES,
    Caller,
    CallOutcome,
    Departure,
    GateLimits,
    Permit,
    Wait,
)
from orchestrator.memory_gate import InMemoryGate

ONE = GateLimits(in_flight=1)
LEFT = Departure(outcome=CallOutcome.ANSWERED)


async def enter(gate: InMemoryGate, tenant: str, token: str) -> Permit | Wait:
    return await gate.enter("g", ONE, Caller(token, tenant, token))


async def test_a_gate_remembers_no_more_shares_than_it_may() -> None:
    gate = InMemoryGate()
    for number in range(2 * MOST_SHARES + 10):
        passed = await enter(gate, f"t{number}", str(number))
        assert isinstance(passed, Permit)
        await gate.leave(passed, LEFT)
    assert len(gate._gates["g"].shares) <= MOST_SHARES


async def test_forgetting_lets_nobody_who_comes_later_before_those_who_wait() -> None:
    gate = InMemoryGate()
    held = await enter(gate, "flood", "held")
    assert isinstance(held, Permit)
    for number in range(3):
        await enter(gate, "flood", f"f{number}")
    gate._gates["g"].shares |= {f"t{n}": 0.5 for n in range(MOST_SHARES)}
    await enter(gate, "late", "z")
    assert set(gate._gates["g"].shares) == {"late"}
    await gate.leave(held, LEFT)
    assert isinstance(await enter(gate, "late", "z"), Wait)
    assert isinstance(await enter(gate, "flood", "f0"), Permit)
