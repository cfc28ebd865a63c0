"""A completion that is marked along with the step before it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.budget import Account, Amount
from orchestrator.dues import Hold, Needs
from orchestrator.errors import StoreFull
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.store import Lease, Recorded, Started
from tests.conformance.task_steps import claim, running, until
from workers import begun_ahead
from workers.insistence import Insistence
from workers.run_log import StoreRunLog

TOOL = Step(key="tool:1:a", kind=StepKind.TOOL_CALL)
NEXT = StepStart(key="completion:2", kind=StepKind.COMPLETION)


class CountingStore(InMemoryTaskStore):
    """Counts the marks that are written alone."""

    def __init__(self) -> None:
        super().__init__()
        self.marked: list[str] = []
        self.is_full = False
        self.answers = True
        self.admitted = asyncio.Event()

    async def record_step(self, *args: Any, **options: Any) -> Recorded:
        recorded = await super().record_step(*args, **options)
        if not self.answers:
            await asyncio.Event().wait()
        return recorded

    async def admit_step(self, *args: Any) -> Any:
        answer = await super().admit_step(*args)
        self.admitted.set()
        if not self.answers:
            await asyncio.Event().wait()
        return answer

    async def start_step(self, lease: Lease, start: StepStart) -> Started:
        self.marked.append(start.key)
        return await super().start_step(lease, start)

    async def drop_start(self, lease: Lease, key: str) -> None:
        if self.is_full:
            raise StoreFull("Redis is out of memory; free some")
        await super().drop_start(lease, key)


async def open_log(store: CountingStore) -> tuple[StoreRunLog, Lease]:
    return log_of(await running(store), store)


def log_of(lease: Lease, store: CountingStore) -> tuple[StoreRunLog, Lease]:
    async def ring(_: Any) -> None:
        """Nobody is rung for."""

    insist = Insistence(patience_seconds=5)
    return StoreRunLog(store, lease=lease, insist=insist, ring=ring), lease


async def is_marked(store: CountingStore, lease: Lease) -> bool:
    return NEXT.key in store._ledger.held(lease).starts


async def marks_left(store: CountingStore, lease: Lease) -> list[str]:
    """End the attempt and return what the next one is told to have begun."""
    await store.release(lease, running_seconds=0, reason="drain")
    again = await claim(store, await store.get("default", lease.task_id))
    return [start.key for start in again.starts]


async def test_its_start_costs_no_write_and_its_mark_stays() -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    await store.watch("default", lease.task_id, seconds=60)
    await log.record(TOOL, (), then=NEXT)
    assert await log.start(NEXT) == Started(is_unknown=False, is_watched=True)
    await log.take_back()
    assert store.marked == []
    assert await marks_left(store, lease) == [NEXT.key]


async def test_a_completion_that_is_never_asked_leaves_no_mark() -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    await log.record(TOOL, (), then=NEXT)
    await log.take_back()
    assert await marks_left(store, lease) == []


async def test_one_that_is_late_loses_its_mark_and_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(begun_ahead, "AHEAD_SECONDS", 0.0)
    store = CountingStore()
    log, lease = await open_log(store)
    await log.record(TOOL, (), then=NEXT)

    async def is_dropped() -> bool:
        return not await is_marked(store, lease)

    await until(is_dropped)
    await log.start(NEXT)
    assert store.marked == [NEXT.key]
    assert await marks_left(store, lease) == [NEXT.key]


async def test_one_that_is_late_still_tells_that_a_crash_hid_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    await log.start(NEXT)
    await store.release(lease, running_seconds=0, reason="its worker vanished")
    task = await store.get("default", lease.task_id)
    log, lease = log_of((await claim(store, task)).lease, store)
    monkeypatch.setattr(begun_ahead, "AHEAD_SECONDS", 0.0)
    await log.record(TOOL, (), then=NEXT)

    async def is_dropped() -> bool:
        return not await is_marked(store, lease)

    await until(is_dropped)
    assert (await log.start(NEXT)).is_unknown
    assert not (await log.start(NEXT)).is_unknown  # asked again by the same attempt
    assert (await store.get("default", task.id)).maybe_paid == 1


async def test_another_step_does_not_use_its_mark() -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    await log.record(TOOL, (), then=NEXT)
    call = StepStart(key="tool:2:b", kind=StepKind.TOOL_CALL)
    await log.start(call)
    await log.start(NEXT)
    assert store.marked == [call.key]
    assert await marks_left(store, lease) == [NEXT.key, call.key]


async def test_a_run_that_is_cancelled_while_it_marks_takes_the_mark_back() -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    store.answers = False
    recording = asyncio.create_task(log.record(TOOL, (), then=NEXT))
    await until(lambda: is_marked(store, lease))
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    await log.take_back()
    assert await marks_left(store, lease) == []


def needs() -> Needs:
    account = Account(kind="task", name="t", max_tokens=1000)
    return Needs(hold=Hold("default", "token", (account,), Amount(10, 0)))


async def test_another_that_is_admitted_first_leaves_no_mark_of_it() -> None:
    """A summary comes before the completion that was marked with the claim."""
    store = CountingStore()
    log, lease = await open_log(store)
    await log.record(TOOL, (), then=NEXT)
    summary = StepStart(key="summary", kind=StepKind.COMPLETION)
    assert await log.admit(summary, needs()) is not None
    await log.start(summary)
    await log.take_back()
    assert store.marked == [summary.key]  # by its admission
    assert await marks_left(store, lease) == [summary.key]


async def test_a_run_that_is_cancelled_while_it_is_admitted_leaves_no_mark() -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    store.answers = False
    asking = asyncio.create_task(log.admit(NEXT, needs()))
    await store.admitted.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await log.take_back()
    assert await marks_left(store, lease) == []


async def test_a_store_that_is_full_keeps_the_mark_and_stops_nothing() -> None:
    store = CountingStore()
    log, lease = await open_log(store)
    await log.record(TOOL, (), then=NEXT)
    store.is_full = True
    await log.take_back()
    assert await marks_left(store, lease) == [NEXT.key]
