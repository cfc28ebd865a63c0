"""What may be spent, on every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.budget import Account, Amount, Reservation, Spent
from orchestrator.dues import Admitted, Dues, Hold, Needs
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.redis_budget import RedisBudget
from orchestrator.redis_connection import connect
from orchestrator.redis_dues import RedisToll
from tests.fake_redis import fake_redis


class AskedBudget(RedisBudget):
    """Reserves as calls do: of a toll."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self._toll = RedisToll(client)

    async def reserve(
        self, tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
    ) -> Reservation | Spent:
        hold = Hold(tenant, token, accounts, amount)
        answer = await self._toll.admit(Needs(hold=hold))
        made = answer.reservation if isinstance(answer, Admitted) else answer
        assert isinstance(made, Reservation | Spent)
        return made

    async def take_back(
        self, tenant: str, token: str, accounts: tuple[Account, ...], amount: Amount
    ) -> None:
        await self._toll.take_back(Needs(hold=Hold(tenant, token, accounts, amount)))

    async def settle(self, reservation: Reservation, amount: Amount) -> None:
        await self._toll.pay(Dues(reservation=reservation, amount=amount))


Budget = AskedBudget | InMemoryBudget
TASK = Account(kind="task", name="t", max_tokens=100)
DAY = Account(kind="tenant", name="a", daily=True, max_micros=1000)


@pytest.fixture(params=["memory", "fakeredis", "redis"])
async def budget(request: pytest.FixtureRequest) -> AsyncIterator[Budget]:
    if request.param == "memory":
        yield InMemoryBudget()
        return
    if request.param == "redis":
        client = connect(request.getfixturevalue("clean_redis_url"))
    else:
        client = fake_redis()
    yield AskedBudget(client)
    await client.aclose()


async def reserved(budget: Budget, name: str, *accounts: Account, **amount: int):
    answer = await budget.reserve("a", name, accounts, Amount(**amount))
    assert isinstance(answer, Reservation)
    return answer


async def test_a_reservation_counts_at_once_and_is_settled_to_what_was_taken(
    budget: Budget,
):
    held = await reserved(budget, "1", TASK, DAY, tokens=80, micros=900)
    assert await budget.spent("a", TASK) == Amount(80, 900)
    await budget.settle(held, Amount(30, 300))
    for account in (TASK, DAY):
        assert await budget.spent("a", account) == Amount(30, 300)


@pytest.mark.parametrize(
    ("amount", "full"), [(Amount(101, 0), TASK), (Amount(1, 1001), DAY)]
)
async def test_what_does_not_fit_one_account_is_taken_from_none(
    budget: Budget, amount: Amount, full: Account
):
    await reserved(budget, "0", TASK, DAY, tokens=0, micros=0)
    answer = await budget.reserve("a", "1", (TASK, DAY), amount)
    assert answer == Spent(full, Amount())
    for account in (TASK, DAY):
        assert await budget.spent("a", account) == Amount()


async def test_repeats_change_nothing(budget: Budget):
    held = await reserved(budget, "1", TASK, tokens=60)
    assert await reserved(budget, "1", TASK, tokens=60) == held
    await budget.settle(held, Amount(10, 0))
    await budget.settle(held, Amount(10, 0))
    assert await budget.spent("a", TASK) == Amount(10, 0)


async def test_what_is_taken_back_was_never_taken(budget: Budget):
    other = await reserved(budget, "0", TASK, DAY, tokens=20, micros=1)
    held = await reserved(budget, "1", TASK, DAY, tokens=60, micros=1)
    for _ in range(2):
        await budget.take_back("a", "1", (TASK, DAY), held.amount)
    assert await budget.spent("a", TASK) == Amount(20, 1)
    assert await budget.spent("a", DAY) == Amount(20, 1)
    await budget.settle(held, Amount(50, 1))
    await budget.settle(other, Amount(10, 1))
    assert await budget.spent("a", TASK) == Amount(10, 1)


async def test_what_is_taken_back_before_it_is_asked_for_takes_nothing(
    clean_redis_url: str,
):
    """Of two connections the one that was asked first may be heard last."""
    client = connect(clean_redis_url)
    budget = AskedBudget(client)
    await budget.take_back("a", "1", (TASK, DAY), Amount(60, 1))
    with pytest.raises(RuntimeError, match="taken back"):
        await budget.reserve("a", "1", (TASK, DAY), Amount(60, 1))
    spent = [await budget.spent("a", each) for each in (TASK, DAY)]
    await client.aclose()
    assert spent == [Amount(), Amount()]


async def test_tenants_share_nothing(budget: Budget):
    await reserved(budget, "1", TASK, tokens=100)
    assert isinstance(await budget.reserve("b", "1", (TASK,), Amount(100)), Reservation)


async def test_fifty_at_once_never_pass_the_limit(budget: Budget):
    answers = await asyncio.gather(
        *(budget.reserve("a", str(n), (TASK,), Amount(9)) for n in range(50))
    )
    assert sum(isinstance(answer, Reservation) for answer in answers) == 11
    assert (await budget.spent("a", TASK)).tokens == 99


async def test_a_day_begins_anew():
    now = 86_400.0 * 3 - 1
    budget = InMemoryBudget(clock=lambda: now)
    held = await reserved(budget, "1", DAY, micros=1000)
    now += 2
    await reserved(budget, "2", DAY, micros=1000)
    await budget.settle(held, Amount())
    assert await budget.spent("a", DAY) == Amount(0, 1000)


async def test_a_reservation_repeated_after_midnight_is_of_the_day_before():
    now = 86_400.0 * 3 - 1
    budget = InMemoryBudget(clock=lambda: now)
    held = await reserved(budget, "1", TASK, DAY, tokens=50, micros=1000)
    now += 2
    assert await reserved(budget, "1", TASK, DAY, tokens=50, micros=1000) == held
    await reserved(budget, "2", DAY, micros=1000)
    await budget.settle(held, Amount(10, 100))
    assert await budget.spent("a", DAY) == Amount(0, 1000)
    assert await budget.spent("a", TASK) == Amount(10, 100)


async def test_what_was_reserved_before_midnight_is_taken_back_after_it_in_redis(
    clean_redis_url: str,
):
    client = connect(clean_redis_url)
    budget = AskedBudget(client)
    held = await reserved(budget, "1", TASK, DAY, tokens=50, micros=1000)
    key = redis_keys.budget("a", "tenant", "a")
    await client.rename(f"{key}:{held.day}", f"{key}:{held.day - 1}")  # a day passes
    await budget.take_back("a", "1", (TASK, DAY), held.amount)
    yesterday = await client.hgetall(f"{key}:{held.day - 1}")
    task = await budget.spent("a", TASK)
    await client.aclose()
    assert yesterday == {"tokens": "0", "micros": "0"}
    assert task == Amount()


@pytest.mark.parametrize("accounts", [(DAY,), (TASK, DAY)])
async def test_a_repeat_after_midnight_takes_nothing_more_in_redis(
    clean_redis_url: str, accounts: tuple[Account, ...]
):
    client = connect(clean_redis_url)
    budget = AskedBudget(client)
    held = await reserved(budget, "1", *accounts, tokens=50, micros=1000)
    key = redis_keys.budget("a", "tenant", "a")
    await client.rename(f"{key}:{held.day}", f"{key}:{held.day - 1}")  # a day passes
    again = await reserved(budget, "1", *accounts, tokens=50, micros=1000)
    assert again.day == held.day - 1
    await budget.settle(again, Amount(10, 100))
    yesterday = await client.hgetall(f"{key}:{held.day - 1}")
    today = await budget.spent("a", DAY)
    await client.aclose()
    assert yesterday == {"tokens": "10", "micros": "100"}
    assert today == Amount()
