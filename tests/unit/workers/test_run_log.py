"""What a run writes under its lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.budget import Account, Amount, Reservation
from orchestrator.dues import Dues
from orchestrator.errors import StoreFull
from orchestrator.journal import Step, StepKind
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_gate import InMemoryGate
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Recorded
from tests.conformance.task_steps import completed, running, until
from workers.insistence import Insistence
from workers.run_log import StoreRunLog

DAY = Account(kind="tenant", name="default", daily=True, max_tokens=10_000)
STEP = Step(key="completion:1", kind=StepKind.COMPLETION)


class FullStore(InMemoryTaskStore):
    """Takes steps from the moment that it has room."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.refused = asyncio.Event()
        self.has_room = False

    async def record_step(self, *args: Any, **options: Any) -> Recorded:
        if not self.has_room:
            self.refused.set()
            raise StoreFull("Redis is out of memory; free some")
        return await super().record_step(*args, **options)


@pytest.mark.parametrize("ended_first", [False, True])
async def test_a_run_cancelled_while_it_records_still_pays_for_its_call(
    ended_first: bool,
) -> None:
    budget = InMemoryBudget()
    store = FullStore(toll=InMemoryToll(gate=InMemoryGate(), budget=budget))
    lease = await running(store)
    reservation = await budget.reserve("default", "call", (DAY,), Amount(5000, 0))
    assert isinstance(reservation, Reservation)

    async def ring(_: object) -> None:
        """Nobody is rung for."""

    log = StoreRunLog(
        store, lease=lease, insist=Insistence(patience_seconds=60), ring=ring
    )
    dues = Dues(reservation=reservation, amount=Amount(10, 0))
    recording = asyncio.create_task(log.record(STEP, (), dues=dues))
    await store.refused.wait()
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    if ended_first:
        await store.finish(lease, completed(lease), running_seconds=1.0)
    store.has_room = True

    async def is_settled() -> bool:
        return await budget.spent("default", DAY) == Amount(10, 0)

    await until(is_settled)
    kept = await store.steps("default", lease.task_id)
    assert [step.key for step in kept] == ([] if ended_first else [STEP.key])
