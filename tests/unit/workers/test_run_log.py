"""What a run writes under its lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.budget import Account, Amount, Reservation
from orchestrator.dues import Dues
from orchestrator.errors import StoreFull, StoreUnavailable
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step, StepKind, StepStart, Unfinished
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_gate import InMemoryGate
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Doorbell, Lease, Recorded
from orchestrator.task import Task
from tests.conformance.task_steps import completed, running, until
from workers.insistence import Insistence
from workers.run_log import StoreRunLog

DAY = Account(kind="tenant", name="default", daily=True, max_tokens=10_000)
STEP = Step(key="completion:1", kind=StepKind.COMPLETION)
PROGRESS = NewEvent(type=EventType.PROGRESS, data={})


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


def log_of(
    store: InMemoryTaskStore,
    lease: Lease,
    *,
    rung: list[str] | None = None,
    **facts: Any,
) -> StoreRunLog:
    told = [] if rung is None else rung

    async def ring(bells: tuple[Doorbell, ...]) -> None:
        told.extend(bell.task_id for bell in bells)

    insist = Insistence(patience_seconds=60)
    return StoreRunLog(store, lease=lease, insist=insist, ring=ring, **facts)


class TellingStore(InMemoryTaskStore):
    """Has more to tell with a record than one run alone would give it."""

    asked = 0
    has_mail = False
    bell = Doorbell("default", "task-other", "a", "celeriac", 5)

    async def take_messages(self, *args: Any) -> Step | None:
        self.asked += 1
        return await super().take_messages(*args)

    async def record_step(self, *args: Any, **options: Any) -> Recorded:
        recorded = await super().record_step(*args, **options)
        return recorded._replace(has_mail=self.has_mail, doorbells=(self.bell,))


async def test_an_inbox_is_asked_when_a_claim_or_a_record_has_told_of_mail() -> None:
    store = TellingStore()
    log = log_of(store, await running(store), has_mail=False)
    await log.take("messages:1:1")
    assert store.asked == 0
    store.has_mail = True
    await log.record(STEP, ())
    await log.take("messages:2:1")
    assert store.asked == 1


async def test_who_is_made_ready_by_a_record_is_rung_for() -> None:
    store, rung = TellingStore(), list[str]()
    await log_of(store, await running(store), rung=rung).record(STEP, ())
    assert rung == ["task-other"]


async def test_who_follows_a_run_is_told_all_of_its_attempt() -> None:
    """Their watch may lapse for a moment while they read."""
    store = InMemoryTaskStore()
    lease = await running(store)
    log = log_of(store, lease)
    await store.watch("default", lease.task_id, seconds=60)
    first = StepStart(key="completion:1", kind=StepKind.COMPLETION)
    assert (await log.start(first)).is_watched
    await store.watch("default", lease.task_id, seconds=0.001)

    async def is_unwatched() -> bool:
        again = StepStart(key="tool:1:a", kind=StepKind.TOOL_CALL)
        return not (await store.start_step(lease, again)).is_watched

    await until(is_unwatched)
    second = StepStart(key="completion:2", kind=StepKind.COMPLETION)
    assert (await log.start(second)).is_watched


async def test_events_whose_answer_was_lost_are_told_once() -> None:
    class LosingStore(InMemoryTaskStore):
        lost = 0

        async def append_events(self, *args: Any, **options: Any) -> None:
            await super().append_events(*args, **options)
            if self.lost == 0:
                self.lost += 1
                raise StoreUnavailable("the answer was lost; start Redis")

    store = LosingStore()
    lease = await running(store)
    log = log_of(store, lease)
    before = len(await store.events("default", lease.task_id))
    await log.emit([PROGRESS])
    await log.emit([PROGRESS])
    told = await store.events("default", lease.task_id)
    assert (store.lost, len(told) - before) == (1, 2)


@pytest.mark.parametrize("conversation_id", [None, "c"])
async def test_what_was_said_so_far_is_kept_for_a_conversation_alone(
    conversation_id: str | None,
) -> None:
    kept: list[Unfinished | None] = []

    class KeepingStore(InMemoryTaskStore):
        async def append_events(
            self, *args: Any, unfinished: Any = None, **options: Any
        ) -> None:
            kept.append(unfinished)

    store = KeepingStore()
    task = Task(agent_name="a", conversation_id=conversation_id)
    log = log_of(store, await running(store), task=task)
    said = Unfinished("completion:1", "So")
    await log.emit((), unfinished=said)
    assert kept == [said if conversation_id else None]
