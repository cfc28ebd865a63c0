"""What the gate on Redis must do itself: hear in any order, and forget tenants."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.gate import MOST_SHARES, GateLimits
from tests.conformance.test_gate import FREE, ONE, AskedGate, caller, entered


async def test_who_is_let_in_only_after_it_has_withdrawn_is_not_in(
    client: Redis,
):
    """Of two connections the one that was asked first may be heard last."""
    gate = AskedGate(client)
    await gate.withdraw("g", caller("1"))
    with pytest.raises(RuntimeError, match="taken back"):
        await gate.enter("g", ONE, caller("1"))
    state = await gate.state("g", ONE)
    await entered(gate, "2")
    assert (state.in_flight, state.waiting, state.requests) == (0, 0, 0)


async def test_who_waited_and_never_came_back_is_not_told_of(client: Redis):
    """Nobody enters any more, so nobody else forgets them."""
    gate, seen = AskedGate(client), f"{redis_keys.gate('g')}:seen"
    await entered(gate, "1")
    many = 3 * 100
    for number in range(many):
        await gate.enter("g", ONE, caller(f"w{number}"))
    assert (await gate.state("g", ONE)).waiting == many
    await client.zadd(seen, dict.fromkeys(await client.zrange(seen, 0, -1), 1))
    assert (await gate.state("g", ONE)).waiting == 0


@pytest.mark.parametrize(("share", "kept"), [(0, 0), (5, 0), (6, 1)])
async def test_a_gate_in_redis_remembers_no_more_shares_than_it_may(
    client: Redis, share: int, kept: int
):
    """Those that the gate has passed; and all, where too many are left."""
    gate, key = AskedGate(client), redis_keys.gate("g")
    others = {f"f:t{n}": 0 if kept else share for n in range(MOST_SHARES)}
    await client.hset(key, mapping={"v": 5, **others, "f:ahead": share})
    await entered(gate, "1", FREE, tenant="mine")
    shares = [name for name in await client.hkeys(key) if name.startswith("f:")]
    reached = await client.hget(key, "v")
    assert sorted(shares) == ["f:ahead", "f:mine"][1 - kept :]
    assert reached == "5"


async def test_a_gate_in_redis_lets_all_begin_as_equals_when_too_many_are_ahead(
    client: Redis,
):
    gate, key = AskedGate(client), redis_keys.gate("g")
    ahead = {f"f:t{n}": n for n in range(MOST_SHARES)}
    await client.hset(key, mapping={"v": 5, **ahead})
    await entered(gate, "1", FREE, tenant="mine")
    shares = [name for name in await client.hkeys(key) if name.startswith("f:")]
    reached = await client.hget(key, "v")
    assert shares == ["f:mine"]
    assert int(reached) == MOST_SHARES - 1


@pytest.mark.parametrize(
    "damage", [{"junk": "1"}, {"r%d": "x"}, {"t" + "9" * 400: "1"}]
)
async def test_what_is_no_count_in_a_window_keeps_nobody_out(
    client: Redis, damage: dict[str, str]
):
    gate, window = AskedGate(client), f"{redis_keys.gate('g')}:window"
    seconds, _ = await client.time()
    for field, count in damage.items():
        name = field.replace("%d", str(seconds * 1000 - 1000))
        await client.hset(window, name, count)
    limits = GateLimits(requests=5)
    await entered(gate, "1", limits)
    state = await gate.state("g", limits)
    assert (state.requests, state.tokens) == (1, 0)
    assert await client.hlen(window) == 2


@pytest.mark.parametrize("damage", ["junk", "a b 1 2 3;", "a b 0 x 0 0 1;", ";" * 99])
async def test_what_is_nothing_that_is_owed_keeps_nobody_out(
    client: Redis, damage: str
):
    gate, key = AskedGate(client), redis_keys.gate("g")
    await client.hset(key, "owed", damage)
    await entered(gate, "1", GateLimits(tokens=10), tokens=5)
    assert not await client.hexists(key, "owed")
