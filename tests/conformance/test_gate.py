"""What may pass a gate, and when, on every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis

from orchestrator.dues import Admitted, Dues, Entry, Needs
from orchestrator.gate import (
    FAILURES_TO_OPEN,
    LEASE_SECONDS,
    Caller,
    CallOutcome,
    Departure,
    GateLimits,
    Permit,
    Wait,
)
from orchestrator.memory_gate import InMemoryGate
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisToll
from orchestrator.redis_gate import RedisGate
from tests.fake_redis import fake_redis


class AskedGate(RedisGate):
    """Asks for its permits as calls do: a toll."""

    def __init__(self, client: Redis, *, lease_seconds: float = LEASE_SECONDS) -> None:
        super().__init__(client, lease_seconds=lease_seconds)
        self._toll = RedisToll(client, lease_seconds=lease_seconds)

    async def enter(
        self, gate: str, limits: GateLimits, caller: Caller
    ) -> Permit | Wait:
        answer = await self._toll.admit(Needs(entry=Entry(gate, limits, caller)))
        passed = answer.permit if isinstance(answer, Admitted) else answer
        assert isinstance(passed, Permit | Wait)
        return passed

    async def withdraw(self, gate: str, caller: Caller) -> None:
        await self._toll.take_back(Needs(entry=Entry(gate, FREE, caller)))

    async def leave(self, permit: Permit, departure: Departure) -> None:
        await self._toll.pay(Dues(permit, departure))


Gate = AskedGate | InMemoryGate
OpenGate = Callable[..., Gate]
ONE = GateLimits(in_flight=1)
FREE = GateLimits()
ANSWERED = Departure(outcome=CallOutcome.ANSWERED)
DOWN = Departure(outcome=CallOutcome.UNAVAILABLE)


@pytest.fixture(params=["memory", "fakeredis", "redis"])
async def open_gate(request: pytest.FixtureRequest) -> AsyncIterator[OpenGate]:
    if request.param == "memory":
        yield InMemoryGate
        return
    if request.param == "redis":
        client = connect(request.getfixturevalue("clean_redis_url"))
    else:
        client = fake_redis()
    yield lambda **options: AskedGate(client, **options)
    await client.aclose()


@pytest.fixture
def gate(open_gate: OpenGate) -> Gate:
    return open_gate()


def caller(token: str, *, tenant: str = "a", priority: int = 4, tokens: int = 0):
    return Caller(
        token=token,
        tenant=tenant,
        task_id=f"task-{token}",
        priority=priority,
        tokens=tokens,
    )


async def entered(
    gate: Gate, token: str, limits: GateLimits = ONE, **facts: object
) -> Permit:
    answer = await gate.enter("g", limits, caller(token, **facts))
    assert isinstance(answer, Permit), answer
    return answer


async def waits(
    gate: Gate, token: str, limits: GateLimits = ONE, **facts: object
) -> Wait:
    answer = await gate.enter("g", limits, caller(token, **facts))
    assert isinstance(answer, Wait), answer
    return answer


async def until_entered(gate: Gate, token: str, limits: GateLimits = ONE) -> Permit:
    async with asyncio.timeout(10):
        while True:
            answer = await gate.enter("g", limits, caller(token))
            if isinstance(answer, Permit):
                return answer
            await asyncio.sleep(min(answer.seconds, 0.05))


async def test_calls_in_flight_are_bounded_and_a_permit_returns(gate: Gate):
    first = await entered(gate, "1")
    assert (await waits(gate, "2")).reason == "in_flight"
    await gate.leave(first, ANSWERED)
    await entered(gate, "2")


async def test_gates_do_not_see_each_other(gate: Gate):
    await entered(gate, "1")
    assert isinstance(await gate.enter("other", ONE, caller("2")), Permit)


async def test_a_repeated_entry_returns_the_same_permit(gate: Gate):
    first, again = await entered(gate, "1"), await entered(gate, "1")
    assert first.token == again.token
    assert (await gate.state("g", ONE)).in_flight == 1


async def test_a_repeat_settles_what_was_counted_when_its_permit_was_granted(
    gate: Gate,
):
    limits = GateLimits(tokens=100, window_seconds=12)
    first = await entered(gate, "1", limits, tokens=90)
    await asyncio.sleep(0.45)
    again = await entered(gate, "1", limits, tokens=90)
    assert again == first
    settled = Departure(outcome=CallOutcome.ANSWERED, tokens=10)
    await gate.leave(again, settled)
    assert (await gate.state("g", limits)).tokens == 10


async def test_a_repeat_has_its_permit_though_the_gate_is_full_and_others_wait(
    gate: Gate,
):
    first = await entered(gate, "1")
    await waits(gate, "2")
    assert (await entered(gate, "1")).token == first.token
    await waits(gate, "3")
    state = await gate.state("g", ONE)
    assert (state.in_flight, state.waiting) == (1, 2)
    await gate.leave(first, ANSWERED)
    await gate.leave(await until_entered(gate, "2"), ANSWERED)
    await until_entered(gate, "3")


async def test_a_repeat_whose_permit_has_run_out_waits_like_anybody(
    clean_redis_url: str,
):
    client = connect(clean_redis_url)
    short, long = AskedGate(client, lease_seconds=0.05), AskedGate(client)
    one = GateLimits(in_flight=1, window_seconds=36_000)  # in one part of the window
    await entered(short, "1", one)
    second = await until_entered(long, "2", one)
    await waits(long, "1", one)
    await long.leave(second, ANSWERED)
    await until_entered(long, "1", one)
    assert (await long.state("g", one)).in_flight == 1
    await client.aclose()


async def test_a_repeated_leave_gives_back_nothing_more(gate: Gate):
    two = GateLimits(in_flight=2)
    first = await entered(gate, "1", two)
    await entered(gate, "2", two)
    await gate.leave(first, ANSWERED)
    await gate.leave(first, ANSWERED)
    assert (await gate.state("g", two)).in_flight == 1


async def test_requests_in_a_window_are_bounded_and_come_back(gate: Gate):
    limits = GateLimits(requests=2, window_seconds=1.5)
    for token in "12":
        await gate.leave(await entered(gate, token, limits), ANSWERED)
    wait = await waits(gate, "3", limits)
    assert wait.reason == "requests"
    assert 0 < wait.seconds <= 1.56  # the window and a part of it
    await until_entered(gate, "3", limits)


async def test_no_key_of_a_gate_stays_for_ever_once_nobody_comes(
    clean_redis_url: str,
):
    limits = GateLimits(window_seconds=600)
    refused = Departure(outcome=CallOutcome.REFUSED, wait_seconds=0.05)
    async with connect(clean_redis_url) as client:
        gate = AskedGate(client)
        await gate.report("g", refused)
        await waits(gate, "1", limits)
        await until_entered(gate, "1", limits)
        ttls = {key: await client.pttl(key) for key in await client.keys()}
    assert len(ttls) == 3
    assert min(ttls.values()) > 0, ttls


async def test_tokens_are_counted_when_granted_and_settled_when_given_back(gate: Gate):
    limits = GateLimits(tokens=100)
    first = await entered(gate, "1", limits, tokens=90)
    assert (await waits(gate, "2", limits, tokens=20)).reason == "tokens"
    used = Departure(outcome=CallOutcome.ANSWERED, tokens=30)
    await gate.leave(first, used)
    assert (await gate.state("g", limits)).tokens == 30
    await entered(gate, "2", limits, tokens=20)


async def test_a_call_larger_than_the_token_limit_passes_alone(gate: Gate):
    limits = GateLimits(tokens=100)
    await entered(gate, "1", limits, tokens=500)
    assert (await waits(gate, "2", limits, tokens=1)).reason == "tokens"


async def test_a_refusal_closes_the_gate_for_everyone_as_long_as_asked(gate: Gate):
    refused = Departure(outcome=CallOutcome.REFUSED, wait_seconds=1.0)
    await gate.leave(await entered(gate, "1", FREE), refused)
    wait = await waits(gate, "2", FREE)
    assert wait.reason == "cool_down"
    assert 0 < wait.seconds <= 1.0
    assert (await gate.state("g", FREE)).closed_by == "cool_down"
    await until_entered(gate, "2", FREE)


@pytest.mark.parametrize("named", [None, 0.0])
async def test_a_refusal_without_a_wait_closes_it_for_longer_each_time(
    gate: Gate, named: float | None
):
    refused = Departure(outcome=CallOutcome.REFUSED, wait_seconds=named)
    await gate.report("g", refused)
    first = await waits(gate, "1", FREE)
    assert 0 < first.seconds <= 1.0
    await asyncio.sleep(first.seconds + 0.02)
    await gate.report("g", refused)
    second = await waits(gate, "1", FREE)
    assert 1.0 < second.seconds <= 2.0
    assert second.closed_seconds >= 1.0


async def test_the_breaker_opens_lets_one_probe_through_and_closes(gate: Gate):
    for _ in range(FAILURES_TO_OPEN):
        await gate.report("g", DOWN)
    assert (await waits(gate, "1", FREE)).reason == "unavailable"
    probe = await until_entered(gate, "1", FREE)
    assert (await waits(gate, "2", FREE)).reason == "unavailable"
    await gate.leave(probe, ANSWERED)
    await entered(gate, "2", FREE)
    await entered(gate, "3", FREE)


async def test_a_success_forgets_earlier_failures(gate: Gate):
    for _ in range(FAILURES_TO_OPEN - 1):
        await gate.report("g", DOWN)
    await gate.report("g", ANSWERED)
    await gate.report("g", DOWN)
    await entered(gate, "1", FREE)


async def test_the_permit_of_a_worker_that_is_gone_returns(open_gate: OpenGate):
    gate = open_gate(lease_seconds=0.2)
    await entered(gate, "1")
    await waits(gate, "2")
    await until_entered(gate, "2")


async def test_a_renewed_permit_is_kept_and_a_returned_one_is_not_revived(
    open_gate: OpenGate,
):
    gate = open_gate(lease_seconds=1.0)
    first = await entered(gate, "1")
    for _ in range(4):
        await asyncio.sleep(0.3)
        await gate.renew((first,))
    await waits(gate, "2")
    await gate.leave(first, ANSWERED)
    await gate.renew((first,))
    await entered(gate, "2")


async def test_the_more_urgent_passes_first(gate: Gate):
    first = await entered(gate, "1")
    await waits(gate, "2", priority=1)
    await waits(gate, "3", priority=9)
    await gate.leave(first, ANSWERED)
    await waits(gate, "2", priority=1)
    await entered(gate, "3", priority=9)


async def test_a_tenant_that_floods_waits_behind_itself(gate: Gate):
    held = await entered(gate, "0", tenant="flood")
    for name in ("f1", "f2", "f3"):
        await waits(gate, name, tenant="flood")
    await waits(gate, "q1", tenant="quiet")
    order: list[str] = []
    waiting = {"f1": "flood", "f2": "flood", "f3": "flood", "q1": "quiet"}
    while waiting:
        await gate.leave(held, ANSWERED)
        for name, tenant in list(waiting.items()):
            answer = await gate.enter("g", ONE, caller(name, tenant=tenant))
            if isinstance(answer, Permit):
                held = answer
                order.append(name)
                del waiting[name]
                break
    assert order.index("q1") <= 1
    assert [name for name in order if name != "q1"] == ["f1", "f2", "f3"]


async def test_a_gate_stays_closed_for_a_day_at_most(gate: Gate):
    endless = Departure(outcome=CallOutcome.REFUSED, wait_seconds=1e300)
    await gate.report("g", endless)
    state = await gate.state("g", FREE)
    assert 86_000 < state.closed_for_seconds <= 86_400


async def test_who_withdraws_holds_nobody_up_and_keeps_its_place(gate: Gate):
    first = await entered(gate, "1")
    await waits(gate, "2")
    await gate.withdraw("g", caller("2"))
    await waits(gate, "3")
    assert (await gate.state("g", ONE)).waiting == 2
    await gate.leave(first, ANSWERED)
    returned = caller("again")._replace(task_id="task-2")
    assert isinstance(await gate.enter("g", ONE, returned), Permit)
    await waits(gate, "3")


async def test_who_withdraws_without_knowing_that_it_was_let_in_is_out(gate: Gate):
    await entered(gate, "1")
    await waits(gate, "2")
    await gate.withdraw("g", caller("1"))
    assert (await gate.state("g", ONE)).in_flight == 0
    await until_entered(gate, "2")
    await gate.withdraw("g", caller("1"))
    assert (await gate.state("g", ONE)).in_flight == 1


async def test_a_waiter_that_is_gone_is_passed_over(gate: Gate):
    first = await entered(gate, "1")
    await waits(gate, "gone")
    await waits(gate, "2")
    await gate.leave(first, ANSWERED)
    await until_entered(gate, "2")


async def test_failures_at_one_instant_all_count(gate: Gate):
    await asyncio.gather(*(gate.report("g", DOWN) for _ in range(FAILURES_TO_OPEN)))
    assert (await gate.state("g", FREE)).closed_by == "unavailable"


async def test_old_trouble_is_forgotten():
    now = 0.0
    gate = InMemoryGate(clock=lambda: now)
    for _ in range(FAILURES_TO_OPEN - 1):
        await gate.report("g", DOWN)
    now += 3600
    await gate.report("g", DOWN)
    assert (await gate.state("g", FREE)).closed_by is None


@asynccontextmanager
async def listener(gate: Gate) -> AsyncIterator[asyncio.Queue[str]]:
    """Hears whose turn it may be; "first" has the permit and "second" has heard."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.create_task(gate.listen(heard.put_nowait))
    try:
        await entered(gate, "first")
        await waits(gate, "second")
        async with asyncio.timeout(30):
            while heard.empty():  # the listener may not stand yet: leave again
                await gate.report("g", Departure(outcome=CallOutcome.UNKNOWN))
                await asyncio.sleep(0.01)
            assert await heard.get() == "second"
            yield heard
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def test_who_is_next_is_told_when_a_permit_comes_back(gate: Gate):
    async with listener(gate) as heard:
        await waits(gate, "third")
        await gate.leave(await entered(gate, "first"), ANSWERED)
        while await heard.get() != "third":
            pass
        await entered(gate, "second")


async def test_who_is_next_is_told_when_a_permit_is_taken_back(gate: Gate):
    async with listener(gate) as heard:
        await waits(gate, "third")  # since then, only the permit can tell of it
        await gate.withdraw("g", caller("first"))
        while await heard.get() != "third":
            pass
        await entered(gate, "second")
