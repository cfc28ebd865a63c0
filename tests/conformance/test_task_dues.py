"""A step's record pays what its call owes: the permit and the budget, once."""

from __future__ import annotations

from uuid import uuid4

import pytest

from orchestrator.budget import Account, Amount, Spent
from orchestrator.dues import Admitted, Dues, Entry, Hold, Needs
from orchestrator.errors import LeaseLost
from orchestrator.gate import Caller, CallOutcome, Departure, GateLimits, Wait
from orchestrator.journal import Step, StepKind, StepStart
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import claim, completed, running

GATE = "one http://x/v1 m"
LIMITS = GateLimits(in_flight=1, tokens=10_000)
TASK_ACCOUNT = Account(kind="task", name="t", max_tokens=10_000)
AGENT_ACCOUNT = Account(kind="agent", name="a", daily=True, max_tokens=10_000)
STEP = Step(key="completion:1", kind=StepKind.COMPLETION, outcome={"[]": []})


def needs(*, most: int = 500) -> Needs:
    caller = Caller(token=uuid4().hex, tenant="default", task_id="t", tokens=500)
    accounts = (TASK_ACCOUNT, AGENT_ACCOUNT)
    hold = Hold("default", uuid4().hex, accounts, Amount(most, 9))
    return Needs(Entry(GATE, LIMITS, caller), hold)


async def owed(stores: Stores, *, tokens: int = 70, **departure: object) -> Dues:
    admitted = await stores.toll.admit(needs())
    assert isinstance(admitted, Admitted)
    permit, reservation = admitted
    told = {"outcome": CallOutcome.ANSWERED, "tokens": tokens} | departure
    return Dues(
        permit=permit,
        departure=Departure(**told),
        reservation=reservation,
        amount=Amount(tokens, 3),
    )


async def taken(stores: Stores) -> tuple[int, int]:
    """Return permits held, and tokens reserved or spent of the task."""
    state = await stores.gate.state(GATE, LIMITS)
    spent = await stores.budget.spent("default", TASK_ACCOUNT)
    return state.in_flight, spent.tokens


async def assert_paid(stores: Stores, *, tokens: int = 70) -> None:
    state = await stores.gate.state(GATE, LIMITS)
    assert (state.in_flight, state.tokens) == (0, tokens)
    for account in (TASK_ACCOUNT, AGENT_ACCOUNT):
        assert await stores.budget.spent("default", account) == Amount(tokens, 3)


async def test_the_record_of_a_step_gives_its_permit_back_and_settles(stores: Stores):
    lease = await running(stores.tasks)
    await stores.tasks.record_step(lease, STEP, dues=await owed(stores))
    (recorded,) = await stores.tasks.steps("default", lease.task_id)
    assert recorded.outcome == STEP.outcome
    await assert_paid(stores)


async def test_a_repeated_record_pays_nothing_more(stores: Stores):
    lease = await running(stores.tasks)
    dues = await owed(stores)
    first = await stores.tasks.record_step(lease, STEP, dues=dues)
    assert await stores.tasks.record_step(lease, STEP, dues=dues) == first
    await assert_paid(stores)


async def test_dues_are_paid_although_the_lease_is_lost(stores: Stores):
    lease = await running(stores.tasks)
    dues = await owed(stores)
    await stores.tasks.release(lease, running_seconds=1, reason="drain")
    await claim(stores.tasks, await stores.tasks.get("default", lease.task_id))
    with pytest.raises(LeaseLost):
        await stores.tasks.record_step(lease, STEP, dues=dues)
    await assert_paid(stores)
    assert await stores.tasks.steps("default", lease.task_id) == ()


async def test_a_departure_closes_the_gate_as_long_as_the_endpoint_asks(stores: Stores):
    lease = await running(stores.tasks)
    dues = await owed(stores, wait_seconds=30.0)
    await stores.tasks.record_step(lease, STEP, dues=dues)
    state = await stores.gate.state(GATE, LIMITS)
    assert state.closed_by == "cool_down"
    assert 20 < state.closed_for_seconds <= 30


async def test_a_permit_alone_and_a_reservation_alone_are_paid_too(stores: Stores):
    lease = await running(stores.tasks)
    dues = await owed(stores)
    permit = Dues(permit=dues.permit, departure=dues.departure)
    await stores.tasks.record_step(lease, STEP, dues=permit)
    settlement = Dues(reservation=dues.reservation, amount=dues.amount)
    second = STEP.model_copy(update={"key": "completion:2"})
    await stores.tasks.record_step(lease, second, dues=settlement)
    await assert_paid(stores)


async def test_steps_without_dues_and_empty_dues_are_recorded(stores: Stores):
    lease = await running(stores.tasks)
    await stores.tasks.record_step(lease, STEP, dues=Dues())
    await stores.tasks.finish(lease, completed(lease), running_seconds=1)
    assert len(await stores.tasks.steps("default", lease.task_id)) == 1


async def test_dues_without_a_step_are_paid_once(stores: Stores):
    dues = await owed(stores)
    for each in (dues, dues, Dues()):
        await stores.toll.pay(each)
    await assert_paid(stores)


@pytest.mark.parametrize("first", ["paid", "recorded"])
async def test_dues_that_are_paid_and_recorded_are_paid_once(
    stores: Stores, first: str
):
    lease = await running(stores.tasks)
    dues = await owed(stores)
    if first == "paid":
        await stores.toll.pay(dues)
    await stores.tasks.record_step(lease, STEP, dues=dues)
    if first == "recorded":
        await stores.toll.pay(dues)
    await assert_paid(stores)


START = StepStart(key="completion:1", kind=StepKind.COMPLETION)


async def test_a_step_is_marked_with_its_permit_and_reservation_once(stores: Stores):
    lease = await running(stores.tasks)
    wanted = needs()
    first = await stores.tasks.admit_step(lease, START, wanted)
    assert await stores.tasks.admit_step(lease, START, wanted) == first
    assert isinstance(first, tuple)
    assert not first[1].is_unknown
    assert await taken(stores) == (1, 500)
    await stores.tasks.release(lease, running_seconds=1, reason="drain")
    claimed = await claim(
        stores.tasks, await stores.tasks.get("default", lease.task_id)
    )
    assert (await stores.tasks.start_step(claimed.lease, START)).is_unknown


@pytest.mark.parametrize(
    ("entry", "hold", "expected"), [(True, False, (1, 0)), (False, True, (0, 500))]
)
async def test_a_step_needs_only_a_gate_or_only_a_budget(
    stores: Stores, entry: bool, hold: bool, expected: tuple[int, int]
):
    lease = await running(stores.tasks)
    both = needs()
    some = Needs(both.entry if entry else None, both.hold if hold else None)
    answer = await stores.tasks.admit_step(lease, START, some)
    assert isinstance(answer, tuple)
    assert (answer[0].permit is not None, answer[0].reservation is not None) == (
        entry,
        hold,
    )
    assert await taken(stores) == expected


async def test_who_waits_at_a_gate_reserves_and_marks_nothing(stores: Stores):
    lease = await running(stores.tasks)
    other = await owed(stores)
    assert isinstance(await stores.tasks.admit_step(lease, START, needs()), Wait)
    assert isinstance(await stores.toll.admit(needs()), Wait)
    assert await taken(stores) == (1, 500)
    await stores.toll.pay(other)
    await stores.tasks.release(lease, running_seconds=1, reason="gate")
    claimed = await claim(
        stores.tasks, await stores.tasks.get("default", lease.task_id)
    )
    assert not (await stores.tasks.start_step(claimed.lease, START)).is_unknown


async def test_what_does_not_fit_a_budget_passes_no_gate(stores: Stores):
    lease = await running(stores.tasks)
    answer = await stores.tasks.admit_step(lease, START, needs(most=10_001))
    assert answer == Spent(TASK_ACCOUNT, Amount())
    assert await stores.toll.admit(needs(most=10_001)) == answer
    state = await stores.gate.state(GATE, LIMITS)
    assert (state.in_flight, state.waiting, state.requests) == (0, 0, 0)


async def test_a_run_whose_lease_is_lost_takes_nothing(stores: Stores):
    lease = await running(stores.tasks)
    await stores.tasks.release(lease, running_seconds=1, reason="drain")
    await claim(stores.tasks, await stores.tasks.get("default", lease.task_id))
    with pytest.raises(LeaseLost):
        await stores.tasks.admit_step(lease, START, needs())
    assert await taken(stores) == (0, 0)
