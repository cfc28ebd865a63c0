from __future__ import annotations

import pytest

from orchestrator.cli.status import _closed_gates
from orchestrator.overview import GateOverview, Overview


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (30.0, "(rate limited) for 30 s, 2 waiting"),
        (0.0, "(rate limited) until one of its next calls succeeds, 2 waiting"),
    ],
)
def test_a_closed_gate_says_when_it_opens(seconds: float, told: str) -> None:
    gate = GateOverview.model_construct(
        endpoint="default",
        model="m",
        closed_by="rate_limited",
        closed_for_seconds=seconds,
        waiting=2,
    )
    found = [*_closed_gates(Overview.model_construct(gates=(gate,)))]
    assert found == [f"closed: model m of endpoint default {told}"]
