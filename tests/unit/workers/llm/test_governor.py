"""How a run's completions choose a model, pass its gate and keep to its budget."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Collection
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from conversations.message import Message
from orchestrator.agent_config import AgentConfig
from orchestrator.budget import Account
from orchestrator.budget_limits import SpendingLimits
from orchestrator.errors import StoreUnavailable
from orchestrator.gate import GateLimits
from orchestrator.memory_budget import InMemoryBudget
from orchestrator.memory_dues import InMemoryToll
from orchestrator.memory_gate import InMemoryGate
from orchestrator.task import Task, Usage
from workers.errors import (
    BudgetExceeded,
    CompletionRefused,
    EmptyCompletion,
    GateClosed,
    LLMError,
    LLMUnavailable,
    RateLimited,
    RequestRejected,
)
from workers.llm.allowance import Allowance
from workers.llm.endpoints import Endpoints, Price, ServedEndpoint
from workers.llm.gatekeeper import Gatekeeper
from workers.llm.governed_calls import CallRules
from workers.llm.governor import GovernedProvider, Governor
from workers.llm.provider import Completion, CompletionRequest
from workers.llm.scripted import ScriptedLLMProvider

ASKED = CompletionRequest(messages=(Message(role="user", content="hello"),))
DOWN = LLMUnavailable("down", status=503)
BUSY = RateLimited("busy", retry_after_seconds=0.05)


class CountingGate(InMemoryGate):
    """A gate that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def enter(self, *arguments: Any) -> Any:
        self.asked += 1
        return await super().enter(*arguments)


class Stand:
    """Endpoints with scripts, by name; the first is the default one."""

    def __init__(
        self,
        scripts: dict[str, Any],
        *,
        park_after: float = 3.0,
        tenants: dict[str, SpendingLimits] | None = None,
        store: tuple[CountingGate, InMemoryBudget] | None = None,
        **facts: Any,
    ) -> None:
        self.gate, self.budget = store or (CountingGate(), InMemoryBudget())
        self.llms = {
            name: ScriptedLLMProvider(model=f"{name}-model", replies=replies)
            for name, replies in scripts.items()
        }
        served = tuple(
            ServedEndpoint(
                name=name,
                base_url=f"http://{name}/v1",
                model=llm.model,
                provider=llm,
                **facts,
            )
            for name, llm in self.llms.items()
        )
        self.governor = Governor(
            Endpoints(served),
            CallRules(
                Gatekeeper(self.gate, park_after_seconds=park_after),
                Allowance(tenants=tenants or {}),
                InMemoryToll(gate=self.gate, budget=self.budget),
            ),
        )
        self.task = Task(agent_name="a")

    def provider(self, *, may_park: bool = True, **config: Any) -> GovernedProvider:
        agent = AgentConfig(name="a", **config)
        return self.governor.for_run(self.task, agent, may_park=may_park)


def answer(text: str = "hi", **usage: int) -> Completion:
    message = Message(role="assistant", content=text)
    return Completion(message=message, usage=Usage(**usage))


async def test_the_agent_chooses_its_endpoint_and_model():
    stand = Stand({"one": ["no"], "two": ["yes"]})
    completion = await stand.provider(endpoint="two").complete(ASKED)
    assert completion.message.content == "yes"
    assert stand.llms["two"].requests[0].model == "two-model"


async def test_an_endpoint_without_limits_costs_no_round_trip():
    stand = Stand({"one": ["a", "b"]})
    for _ in range(2):
        await stand.provider().complete(ASKED)
    assert stand.gate.asked == 0


FALLBACK = [{"endpoint": "two"}, {"endpoint": "three", "model": "big"}]


async def test_fallback_models_are_asked_in_order():
    stand = Stand({"one": [DOWN], "two": [DOWN], "three": ["yes"]})
    completion = await stand.provider(fallback=FALLBACK).complete(ASKED)
    assert completion.message.content == "yes"
    assert stand.llms["three"].requests[0].model == "big"


async def test_a_failure_that_is_not_chosen_asks_no_other_model():
    stand = Stand({"one": [RequestRejected("no")], "two": [], "three": []})
    with pytest.raises(RequestRejected):
        await stand.provider(fallback=FALLBACK).complete(ASKED)


async def failure_of(provider: GovernedProvider) -> weakref.ref[LLMUnavailable]:
    try:
        await provider.complete(ASKED)
    except LLMUnavailable as exc:
        return weakref.ref(exc)
    raise AssertionError


async def test_a_failure_is_freed_without_a_collection_and_the_run_with_it():
    """It would hold each frame it has passed through, of a thousand runs at once."""

    async def fail(request: CompletionRequest) -> Completion:
        raise LLMUnavailable("down", status=503)

    stand = Stand({"one": []})
    stand.llms["one"].complete = fail
    failing = stand.provider()
    gc.collect()
    gc.disable()
    try:
        assert (await failure_of(failing))() is None
        for _ in range(10):  # the breaker is open by then
            with suppress(LLMUnavailable):
                await failing.complete(ASKED)
        assert (await failure_of(failing))() is None
    finally:
        gc.enable()


async def test_the_last_models_failure_is_the_runs():
    stand = Stand({"one": [BUSY], "two": [DOWN], "three": [LLMUnavailable("third")]})
    with pytest.raises(LLMUnavailable, match="third"):
        await stand.provider(fallback=FALLBACK).complete(ASKED)


async def test_a_stream_falls_back_before_its_first_piece():
    stand = Stand({"one": [DOWN], "two": ["one two"], "three": []})
    provider = stand.provider(fallback=FALLBACK)
    pieces = [piece async for piece in provider.stream(ASKED)]
    assert isinstance(pieces[-1], Completion)
    assert len(pieces) == 3


async def test_a_rate_limit_is_waited_for_and_is_no_failure():
    stand = Stand({"one": [BUSY, BUSY, "yes"]})
    completion = await stand.provider().complete(ASKED)
    assert completion.message.content == "yes"
    assert stand.gate.asked >= 2


class FaultyGate(CountingGate):
    """A gate whose store refuses a number of calls."""

    refusals = 0

    async def enter(self, *arguments: Any) -> Any:
        answer = await super().enter(*arguments)
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("Redis is away")
        return answer


class FaultyBudget(InMemoryBudget):
    """Accounts whose store refuses the first call, after it was done."""

    refusals = 1

    async def reserve(self, *arguments: Any) -> Any:
        answer = await super().reserve(*arguments)
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("Redis is away")
        return answer


async def test_a_store_that_refuses_for_a_moment_costs_no_attempt_and_nothing_twice():
    used = answer(input_tokens=10, output_tokens=5)
    gate, budget = store = FaultyGate(), FaultyBudget()
    gate.refusals = 1
    stand = Stand({"one": [used]}, limits=GateLimits(in_flight=1), store=store)
    async with asyncio.timeout(10):
        await stand.provider(budget={"tokens": 9000}).complete(ASKED)
    assert (gate.asked, budget.refusals) == (2, 0)
    assert (await gate.state(gate_of(stand), GateLimits())).in_flight == 0
    account = Account(kind="task", name=stand.task.id)
    assert (await budget.spent("default", account)).tokens == 15


async def test_a_long_wait_closes_the_gate_and_gives_the_slot_away():
    stand = Stand({"one": [RateLimited("busy", retry_after_seconds=30)]})
    with pytest.raises(GateClosed, match="waits for endpoint one") as caught:
        await stand.provider().complete(ASKED)
    assert 29 < caught.value.seconds <= 30


async def test_an_endpoint_that_refuses_for_too_long_fails_by_name():
    stand = Stand({"one": [RateLimited("busy")] * 9}, max_wait_seconds=0.5)
    with pytest.raises(RateLimited, match="longer than max_wait"):
        async with asyncio.timeout(5):
            await stand.provider(may_park=False).complete(ASKED)


async def test_a_breaker_that_is_open_fails_at_once_where_so_configured():
    stand = Stand({"one": [DOWN] * 5})
    for _ in range(5):
        with pytest.raises(LLMUnavailable, match="down"):
            await stand.provider().complete(ASKED)
    with pytest.raises(LLMUnavailable, match="only probed"):
        await stand.provider().complete(ASKED)
    assert not stand.llms["one"].unused


async def test_a_breaker_that_is_open_is_waited_for_where_so_configured():
    stand = Stand({"one": [*[DOWN] * 6, "yes"]}, when_unavailable="wait")
    completion = await stand.provider().complete(ASKED)
    assert completion.message.content == "yes"


async def test_a_call_that_waits_passes_when_another_of_the_process_has_left():
    stand = Stand({"one": ["a"] * 6}, limits=GateLimits(in_flight=1))
    answers = [stand.provider().complete(ASKED) for _ in range(6)]
    async with asyncio.timeout(5):
        await asyncio.gather(*answers)
    assert (await stand.gate.state(gate_of(stand), GateLimits())).in_flight == 0


def gate_of(stand: Stand) -> str:
    endpoint = stand.governor.endpoints.default
    return endpoint.gate_of(endpoint.model)


async def test_real_usage_settles_the_gate_and_the_budget():
    used = answer(input_tokens=10, output_tokens=5)
    limits = GateLimits(tokens=1000)
    prices = {"one-model": Price(input=Decimal(2), output=Decimal("8.5"))}
    stand = Stand({"one": [used]}, limits=limits, prices=prices)
    await stand.provider(budget={"tokens": 10_000}).complete(ASKED)
    assert (await stand.gate.state(gate_of(stand), limits)).tokens == 15
    account = Account(kind="task", name=stand.task.id)
    assert await stand.budget.spent("default", account) == (15, 63)


@pytest.mark.parametrize(
    "config",
    [
        {"budget": {"tokens": 50}, "max_output_tokens": 100},
        {"budget": {"daily_tokens": 50}, "max_output_tokens": 100},
        {"budget": {"cost": "0.0001"}},
        {"budget": {"daily_cost": "0.0001"}},
    ],
)
async def test_a_completion_that_may_pass_a_budget_is_not_asked_for(
    config: dict[str, Any],
):
    prices = {"one-model": Price(output=Decimal(10))}
    stand = Stand({"one": []}, prices=prices)
    request = ASKED.model_copy(
        update={"max_output_tokens": config.get("max_output_tokens")}
    )
    with pytest.raises(BudgetExceeded, match="raise the budget"):
        await stand.provider(**config).complete(request)


async def test_a_tenants_day_is_bounded_over_its_agents():
    limits = {"default": SpendingLimits(daily_tokens=5000)}
    stand = Stand({"one": [answer(input_tokens=900, output_tokens=1)]}, tenants=limits)
    await stand.provider().complete(ASKED)
    with pytest.raises(BudgetExceeded, match="tenant 'default'"):
        await stand.provider().complete(ASKED)


@pytest.mark.parametrize(
    ("error", "counted", "spent"),
    [
        (EmptyCompletion("empty"), None, range(100, 200)),
        (EmptyCompletion("empty"), Usage(input_tokens=10, output_tokens=5), [15]),
        (CompletionRefused("no", status=200), Usage(input_tokens=10), [10]),
        (CompletionRefused("no", status=200), None, range(100, 200)),
        (CompletionRefused("filtered", status=400), None, [0]),
        (RequestRejected("bad", status=400), None, [0]),
    ],
)
async def test_an_answer_that_cannot_be_used_is_paid_all_the_same(
    error: LLMError, counted: Usage | None, spent: Collection[int]
):
    error.usage = counted
    stand = Stand({"one": [error]})
    asked = ASKED.model_copy(update={"max_output_tokens": 100})
    with pytest.raises(type(error)):
        await stand.provider(budget={"tokens": 9000}).complete(asked)
    account = Account(kind="task", name=stand.task.id)
    assert (await stand.budget.spent("default", account)).tokens in spent


async def test_what_failed_without_an_answer_costs_nothing():
    stand = Stand({"one": [DOWN]})
    with pytest.raises(LLMUnavailable):
        await stand.provider(budget={"tokens": 9000}).complete(ASKED)
    account = Account(kind="task", name=stand.task.id)
    assert (await stand.budget.spent("default", account)).tokens == 0


@pytest.mark.parametrize(
    ("stand", "agent", "lets"),
    [
        ({}, {}, True),
        ({"limits": GateLimits(in_flight=1)}, {}, False),
        ({}, {"budget": {"tokens": 100}}, False),
        ({}, {"budget": {"daily_tokens": 100}}, False),
        ({"tenants": {"t": SpendingLimits(daily_tokens=1)}}, {}, False),
        ({}, {"endpoint": "two"}, True),
    ],
)
def test_who_may_meet_a_gate_or_a_budget_is_not_said_to_ask_at_once(stand, agent, lets):
    governor = Stand({"one": [], "two": []}, **stand).governor
    assert governor.lets_ask_at_once(AgentConfig(name="a", **agent)) is lets
