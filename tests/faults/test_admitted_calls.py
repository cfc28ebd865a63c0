"""A2: a worker that is killed between its call's admission and the call itself."""

from __future__ import annotations

import asyncio
import signal

import pytest

from orchestrator import redis_keys
from orchestrator.gate import LEASE_SECONDS, gate_name
from tests.faults.fleet import LEASE_SECONDS as RUN_LEASE_SECONDS
from tests.faults.fleet import Fleet
from tests.faults.invariants import broken_invariants
from tests.faults.redis_proxy import Boundary, RedisProxy

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

ONE_AT_A_TIME = {"CELERIAC_LLM__LIMITS__IN_FLIGHT": "1"}
BUDGET = {"tokens": 100_000}
WITHIN_SECONDS = LEASE_SECONDS + RUN_LEASE_SECONDS + 60
"""Both leases must run out: the permit's is the longer one."""


async def test_a_kill_between_admission_and_call_keeps_no_permit_and_counts_once(
    fleet: Fleet,
) -> None:
    """Its permit is the only one, and its mark, permit and reservation are taken.

    Nobody can know that it was not asked: it may have been paid, and its reservation
    stays spent. Nothing else does, and nothing is counted twice.
    """
    fleet.stand.environment |= ONE_AT_A_TIME
    path = fleet.server.directory / "proxy.sock"
    async with RedisProxy(fleet.server.socket, path) as proxy:
        fleet.stand.environment["REDIS_URL"] = proxy.url
        first = await fleet.start_worker("--pool", "threads")
        proxy.hold(Boundary("admit_step", "after"))
        handle = await fleet.submit("a", turns=1, budget=BUDGET)
        await asyncio.wait_for(proxy.reached.wait(), 30)
        gate, account = keys_of(fleet, handle.id)
        with fleet.raw() as client:
            assert client.zcard(f"{gate}:permits") == 1
            assert open_tokens(client.hgetall(account)) != []
        del fleet.stand.environment["REDIS_URL"]
        await fleet.start_worker("--pool", "threads")
        first.signal(signal.SIGKILL)
        other = await fleet.submit("b", turns=0)
        assert (await handle.result(timeout=WITHIN_SECONDS)).content == "done a"
        assert (await other.result(timeout=60)).content == "done b"
    assert fleet.model.counts() == {("a", 1): 1, ("a", 2): 1, ("b", 1): 1}
    result = (await handle.get()).result
    assert result is not None
    assert result.stats.maybe_paid == 1
    with fleet.raw() as client:
        now_ms = client.time()[0] * 1000  # one that has run out goes with a later call
        assert client.zcount(f"{gate}:permits", now_ms, "+inf") == 0
        spent = client.hgetall(account)
    (kept,) = open_tokens(spent)
    assert int(spent["tokens"]) == kept + result.stats.usage.total_tokens
    assert await broken_invariants(fleet) == []


def keys_of(fleet: Fleet, task_id: str) -> tuple[str, str]:
    """Return the keys of the endpoint's gate and of the task's account."""
    llm = fleet.stand.settings().llm
    name = gate_name("default", fleet.stand.llm_url, llm.model)
    return redis_keys.gate(name), redis_keys.budget("default", "task", task_id)


def open_tokens(account: dict[str, str]) -> list[int]:
    """Return the tokens of each reservation that was not settled."""
    return [
        int(amount.split()[0])
        for name, amount in account.items()
        if name.startswith("open:")
    ]
