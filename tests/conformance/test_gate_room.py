"""No call waits for ever for tokens, be it as large as it may, and none for nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from redis.asyncio import Redis

from orchestrator.gate import ROOM_SECONDS, GateLimits
from orchestrator.memory_gate import InMemoryGate
from orchestrator.redis_connection import connect
from tests.conformance.gate_traffic import (
    PARK_AFTER_SECONDS,
    Call,
    Clock,
    ClockedGate,
    Traffic,
    steady,
)

MOST = 20_000
LIMITS = GateLimits(tokens=MOST)
WINDOW = 61.0
"""A minute, counted in parts of a second."""
LARGE = 6000

OpenTraffic = Callable[[GateLimits], Traffic]


def seconds_between(tokens: int, *, load: float) -> float:
    """Return how often such calls come that take this share of the limit."""
    return 60 * tokens / (MOST * load)


@pytest.fixture(params=["memory", "redis"])
async def open_traffic(request: pytest.FixtureRequest) -> AsyncIterator[OpenTraffic]:
    clock = Clock()
    if request.param == "memory":
        gate = InMemoryGate(clock=clock)
        yield lambda limits: Traffic(gate, clock, limits)
        return
    client = connect(request.getfixturevalue("clean_redis_url"))
    on_redis = ClockedGate(client, clock=clock)
    yield lambda limits: Traffic(on_redis, clock, limits)
    await client.aclose()


@pytest.fixture
def traffic(open_traffic: OpenTraffic) -> Traffic:
    return open_traffic(LIMITS)


@pytest.mark.parametrize("load", [0.9, 1.1])
async def test_a_large_call_passes_before_small_ones_that_come_later(
    traffic: Traffic, load: float
):
    every = seconds_between(200, load=load)
    small = steady(seconds=240, every=every, tokens=200)
    large = Call(90, LARGE)
    await traffic.run([*small, large], until=240)
    assert large.waited < WINDOW
    assert traffic.most_in_a_window() <= MOST


async def test_a_call_passes_behind_a_large_one_that_it_does_not_delay(
    traffic: Traffic,
):
    burst = [Call(0, 190) for _ in range(100)]
    large = Call(5, LARGE)
    small = [Call(6 + n, 100) for n in range(10)]
    await traffic.run([*burst, large, *small], until=120)
    assert [call.waited for call in small] == [0] * 10  # 1,000 were free
    assert large.waited <= WINDOW - 5 + 1


async def test_who_is_more_urgent_passes_before_one_that_is_owed_room(
    traffic: Traffic,
):
    burst = [Call(0, 950) for _ in range(20)]
    large = Call(10, MOST - 200)
    urgent = Call(11, 600, priority=9)
    equal, less = Call(12, 300), Call(12, 300, priority=0)
    await traffic.run([*burst, large, urgent, equal, less], until=200)
    assert urgent.waited == 0
    assert large.passed_at <= urgent.at + WINDOW + ROOM_SECONDS
    assert min(equal.passed_at, less.passed_at) > large.passed_at


async def test_large_calls_and_urgent_ones_do_not_take_from_each_other(
    traffic: Traffic,
):
    urgent = steady(
        seconds=400, every=seconds_between(100, load=0.4), tokens=100, priority=9
    )
    other = steady(seconds=400, every=seconds_between(200, load=0.7), tokens=200)
    large = Call(90, LARGE)
    await traffic.run([*urgent, *other, large], until=400)
    assert large.waited < 3 * WINDOW
    waits = sorted(call.waited for call in urgent if call.at < 350)
    assert waits[len(waits) // 2] < PARK_AFTER_SECONDS
    assert waits[-1] < WINDOW


async def test_room_is_kept_for_one_that_is_gone_no_longer_than_promised(
    traffic: Traffic,
):
    burst = [Call(0, 990) for _ in range(15)]
    gone = Call(5, MOST, gone_after=0)
    small = steady(seconds=100, every=1.0, tokens=20)
    await traffic.run([*burst, gone, *small], until=150)
    assert gone.passed_at is None
    last = max(call.passed_at for call in small if call.waited)
    assert 5 + ROOM_SECONDS < last <= 5 + 3 * ROOM_SECONDS + 1


async def test_a_call_larger_than_the_limit_passes_once_the_window_is_empty(
    traffic: Traffic,
):
    every = seconds_between(200, load=0.9)
    small = steady(seconds=120, every=every, tokens=200)
    huge = Call(60, 3 * MOST // 2)
    await traffic.run([*small, huge], until=400)
    assert huge.waited <= WINDOW + 1
    assert not [at for at, _ in traffic.granted if 0 < huge.passed_at - at < WINDOW - 1]
    assert all(call.passed_at is not None for call in small)


@pytest.mark.parametrize(
    ("tokens", "urgent_load"), [(3 * MOST // 2, 0.02), (LARGE, 0.8)]
)
async def test_a_call_whose_room_more_urgent_ones_take_keeps_none_behind_it_for_ever(
    traffic: Traffic, tokens: int, urgent_load: float
):
    every = seconds_between(200, load=urgent_load)
    urgent = steady(seconds=500, every=every, tokens=200, priority=9)
    every = seconds_between(200, load=0.1)
    behind = steady(seconds=250, every=every, tokens=200)
    await traffic.run([*urgent, *behind, Call(60, tokens)], until=500)
    assert max(call.waited for call in behind) < 4 * WINDOW


async def test_room_in_a_short_window_is_kept_until_its_task_comes_back(
    open_traffic: OpenTraffic,
):
    traffic = open_traffic(GateLimits(tokens=MOST // 10, window_seconds=6.0))
    every = seconds_between(200, load=0.9)
    small = steady(seconds=90, every=every, tokens=200)
    large = Call(30, 1500, comes_back_late=10.0)
    await traffic.run([*small, large], until=90)
    assert large.waited < 20


async def test_small_calls_alone_use_all_that_is_allowed(traffic: Traffic):
    every = seconds_between(200, load=1.2)
    await traffic.run(steady(seconds=300, every=every, tokens=200), until=300)
    used = sum(tokens for _, tokens in traffic.granted) / (MOST * 300 / 60)
    assert used >= 0.97
    assert traffic.most_in_a_window() <= MOST


def of_any_size(seed: int, *, load: float) -> list[Call]:
    random = Random(seed)  # noqa: S311
    calls, at = [], 0.0
    while at < 600:
        tokens = random.choice([50, 200, 500, 1500, 4000, LARGE])
        calls.append(
            Call(
                round(at, 3),
                tokens,
                taken=random.randint(tokens // 2, tokens),
                tenant=random.choice("ab"),
                priority=random.choice([0, 4, 4, 4, 9]),
                seconds=round(random.uniform(0.5, 10), 3),
                comes_back_late=round(random.uniform(0, 3), 3),
            )
        )
        at += random.expovariate(MOST * load / 60 / 2040)
    return calls


@pytest.mark.parametrize("seed", range(5))
async def test_every_call_of_any_size_passes_in_time_and_within_the_limits(
    open_traffic: OpenTraffic, seed: int
):
    traffic = open_traffic(GateLimits(tokens=MOST, requests=60, in_flight=12))
    calls = of_any_size(seed, load=0.8)
    for call in calls:
        call.taken = None
    await traffic.run(calls, until=1000)
    assert max(call.waited for call in calls) < 4 * WINDOW
    assert traffic.most_in_a_window() <= MOST
    passed = sorted(call.passed_at for call in calls)
    later = zip(passed, passed[60:], strict=False)
    assert all(second - first >= 60 for first, second in later)


@pytest.mark.parametrize("seed", range(3))
async def test_both_gates_let_the_same_calls_pass_at_the_same_instants(
    client: Redis, seed: int
):
    requests, in_flight = [(60, None), (None, 6), (40, 12)][seed]
    limits = GateLimits(tokens=MOST, requests=requests, in_flight=in_flight)
    passed = []
    for kind in ("memory", "redis"):
        clock = Clock()
        in_memory = kind == "memory"
        gate = (
            InMemoryGate(clock=clock) if in_memory else ClockedGate(client, clock=clock)
        )
        calls = of_any_size(seed, load=1.0)
        await Traffic(gate, clock, limits).run(calls, until=1200)
        passed.append([call.passed_at for call in calls])
    assert passed[0] == pytest.approx(passed[1], abs=0.05)


async def test_a_clock_set_back_keeps_no_room_for_one_that_is_gone(client: Redis):
    clock = Clock()
    traffic = Traffic(ClockedGate(client, clock=clock), clock, LIMITS)
    burst = [Call(0, 990) for _ in range(15)]
    await traffic.run([*burst, Call(5, MOST, gone_after=0)], until=10)
    traffic.began -= 3600
    later = Call(11, 100)
    await traffic.run([later], until=30)
    assert later.waited == 0


@pytest.mark.parametrize("most", [MOST // 2, 2 * MOST, None])
async def test_a_limit_that_is_changed_holds_for_who_waits_already(
    traffic: Traffic, most: int | None
):
    every = seconds_between(200, load=1.1)
    small = steady(seconds=300, every=every, tokens=200)
    large = Call(90, LARGE)
    await traffic.run([*small, large], until=93)
    traffic.limits = GateLimits(tokens=most)
    await traffic.run([], until=200)
    assert large.waited < WINDOW + ROOM_SECONDS + 1


async def test_calls_of_workers_that_know_no_limit_of_tokens_hold_nobody_up_for_ever(
    traffic: Traffic,
):
    """As those of an older release in an upgrade, they pass without a look at it."""
    every = seconds_between(200, load=0.6)
    small = steady(seconds=240, every=every, tokens=200)
    large = Call(90, LARGE)
    others = Traffic(traffic.gate, traffic.clock, GateLimits(), name="other")
    blind = steady(seconds=1, every=0.1, tokens=300)
    await traffic.run([*small, large], until=95)
    await others.run(blind, until=1)
    traffic.now = traffic.clock.now - traffic.began
    await traffic.run([], until=150)
    assert large.waited < WINDOW + ROOM_SECONDS
