"""Claims and ends that come together are one call, and leave what one by one leaves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from orchestrator import redis_keys
from orchestrator.doorbell_message import doorbell_message
from orchestrator.errors import LeaseLost, StoreUnavailable
from orchestrator.metrics import BUCKETS_MS
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Lease
from orchestrator.task import Task, TaskStatus
from tests.conformance.task_steps import completed, submitted, try_claim
from tests.conformance.test_last_steps import LAST
from tests.fake_redis import fake_redis

FEW = 5
"""Who comes first after one that was alone is not kept waiting."""
MOST_BYTES = 1024 * 1024
"""Of one answer, as lua/claim.lua has it."""
BRIEF_SECONDS = 0.2
"""A lease that is not worth asking again for."""

Doing = Callable[[Iterable[Awaitable[Any]]], Awaitable[list[Any]]]


@pytest.fixture(params=["fakeredis", "redis"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A server that knows no functions, and one that may."""
    if request.param == "redis":
        client = connect(request.getfixturevalue("clean_redis_url"))
    else:
        client = fake_redis()
    yield client
    await client.aclose()


async def together(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def one_by_one(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    return [(await together([call]))[0] for call in calls]


async def script_calls(client: Redis) -> int:
    stats = await client.info("commandstats")
    names = ("cmdstat_fcall", "cmdstat_evalsha")
    return sum(stats.get(name, {}).get("calls", 0) for name in names)


async def test_many_claims_and_ends_are_one_call_each(client: Redis) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(40)]
    before = await script_calls(client)
    claims = await together(try_claim(store, task) for task in tasks)
    assert await script_calls(client) - before <= FEW
    assert [claim.task.id for claim in claims] == [task.id for task in tasks]
    assert len({claim.lease.token for claim in claims}) == len(tasks)
    leases = [claim.lease for claim in claims]
    ended = await together(end(store, lease) for lease in leases)
    assert await script_calls(client) - before <= 2 * FEW
    assert ended == [()] * len(tasks)
    ends = await store.ends("default", [task.id for task in tasks])
    contents = [end.result.content for end in ends if end and end.result]
    assert contents == [task.id for task in tasks]
    kept = [await store.steps("default", task.id) for task in tasks]
    assert {len(steps) for steps in kept} == {0, 1}


def end(store: RedisTaskStore, lease: Lease) -> Awaitable[Any]:
    """End a run; every other one brings its last step along."""
    last = LAST if lease.task_id[-1] in "02468ace" else None
    ending = completed(lease, lease.task_id)
    return store.finish(lease, ending, running_seconds=0, last=last)


def briefly(store: RedisTaskStore, task: Task) -> Awaitable[Any]:
    return try_claim(store, task, lease_seconds=BRIEF_SECONDS)


async def scene(client: Redis, doing: Doing) -> tuple[list[Any], dict[str, Any]]:
    """What tasks of many kinds are answered, and what they leave on the server."""
    store = RedisTaskStore(
        client, dispatch_window=6, doorbell_message=doorbell_message()
    )
    many: list[dict[str, Any]] = [
        *({"priority": place % 3} for place in range(12)),
        {"agent_name": "stranger"},
        {"conversation_id": "talk"},
        {"conversation_id": "talk"},
        {"tags": ("red",), "idempotency_key": "key"},
        {"deadline_seconds": 500.0},
        {"queue": "other"},
    ]
    tasks = [
        await submitted(store, id=f"task-{place:02}", **fields)
        for place, fields in enumerate(many)
    ]
    waiting = await submitted(store, id="task-last", after=(tasks[3].id,))
    foreign = Task(id="task-none", agent_name="researcher")
    await client.delete(redis_keys.record("default", tasks[5].id))
    await client.set(redis_keys.record("default", tasks[5].id), "no hash")
    asked = [*tasks, tasks[0], waiting, foreign]
    claims = await doing([briefly(store, task) for task in asked])
    leases = [each.lease for each in claims if isinstance(each, Claim)]
    stale = leases[1]._replace(token="another")  # noqa: S106 - no password
    ends = await doing([end(store, lease) for lease in (*leases, stale, leases[2])])
    answers = [answer_of(each) for each in (*claims, *ends)]
    return answers, await left_on(client)


def answer_of(found: Any) -> Any:
    if isinstance(found, Claim):
        state = {"started_at", "created_at", "due_at"}
        return found.task.model_dump(mode="json", exclude=state), found.has_mail
    return type(found).__name__ if isinstance(found, Exception) else found


async def left_on(client: Redis) -> dict[str, Any]:
    """Each key's content without instants and tokens."""
    left: dict[str, Any] = {}
    messages: list[str] = []
    async for key in client.scan_iter("*"):
        if key.startswith(redis_keys.LIBRARIES):
            continue
        match await client.type(key):
            case "zset":
                left[key] = sorted(await client.zrange(key, 0, -1))
            case "hash":
                fields = await client.hgetall(key)
                told = {n: plain(n, value) for n, value in fields.items()}
                told.pop("rung_ms", None)
                left[key] = told
            case "list":
                messages += await client.lrange(key, 0, -1)
            case "stream":
                entries = await client.xrange(key)
                left[key] = [(id_, facts["type"]) for id_, facts in entries]
            case kind:
                left[key] = kind
    rung = [each for key, them in left.items() if ":rung:" in key for each in them]
    for member in rung:
        assert any(member.split()[1] in message for message in messages)
    return left


def plain(name: str, value: str) -> str:
    """What does not hang on the moment, nor on who was rung for before his claim."""
    if name == LAST.step.key:
        return value.partition(" {")[2]
    is_time = name.endswith(("_ms", "_token", "_fence", " at")) or " sum " in name
    beside = ("ordinal", "spec", "rings")
    is_moment = is_time or name in beside or name.startswith("running_ms")
    return "" if is_moment else value


def merged(left: dict[str, Any]) -> dict[str, Any]:
    """A machine under load may put a wait into the next bucket."""
    key = "celeriac:default:metrics"
    places = "|".join(str(place) for place in range(len(BUCKETS_MS) + 1))
    fields: dict[str, int] = {}
    for name, value in left[key].items():
        without = re.sub(rf"^(wait|ended \w+) ({places}) ", r"\1 ", name)
        fields[without] = fields.get(without, 0) + int(value or 0)
    left.pop("celeriac:_fleet:flow")  # of messages: fewer are sent
    return left | {key: fields}


async def test_together_they_leave_what_one_by_one_leaves(either: Redis) -> None:
    alone, left_alone = await scene(either, one_by_one)
    await either.flushdb()
    answers, left = await scene(either, together)
    assert answers == alone
    assert merged(left) == merged(left_alone)
    refusals = {answer for answer in answers if isinstance(answer, str)}
    assert refusals >= {"unserved", "leased", "not_due", "unknown", "not_next_turn"}
    assert {LeaseLost.__name__, StoreUnavailable.__name__} <= refusals


async def test_a_broken_record_is_its_own_callers_error(client: Redis) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(5)]
    await client.delete(redis_keys.record("default", tasks[2].id))
    await client.set(redis_keys.record("default", tasks[2].id), "no hash")
    claims = await together(briefly(store, task) for task in tasks)
    assert [type(claim) for claim in claims] == [
        Claim,
        Claim,
        StoreUnavailable,
        Claim,
        Claim,
    ]
    leases = await client.zrange(redis_keys.LEASES, 0, -1)
    assert sorted(leases) == sorted(
        f"default {task.id}" for place, task in enumerate(tasks) if place != 2
    )


async def test_large_tasks_are_claimed_together_up_to_a_size(client: Redis) -> None:
    """Redis serves nobody else while it makes an answer."""
    store = RedisTaskStore(client)
    large = 200 * 1024
    given = {"text": "x" * large}
    tasks = [await submitted(store, input=given) for _ in range(40)]
    before = await script_calls(client)
    claims = await together(try_claim(store, task) for task in tasks)
    assert [claim.task.id for claim in claims] == [task.id for task in tasks]
    apart = len(tasks) - FEW * (MOST_BYTES // large + 1)
    assert apart > FEW
    assert await script_calls(client) - before >= apart
    more = [await submitted(store) for _ in range(30)]
    before = await script_calls(client)
    await together(try_claim(store, task) for task in more)
    assert await script_calls(client) - before <= FEW


async def test_a_task_that_is_claimed_twice_at_once_has_one_holder(
    either: Redis,
) -> None:
    store = RedisTaskStore(either)
    task, other = await submitted(store), await submitted(store)
    one, _, two = await together(try_claim(store, each) for each in (task, other, task))
    holder, refused = (one, two) if isinstance(one, Claim) else (two, one)
    assert isinstance(holder, Claim)  # who of them: they may go on two connections
    assert refused == "leased"
    assert (await store.get("default", task.id)).attempt == 1


async def test_who_follows_is_offered_when_many_end_at_once(either: Redis) -> None:
    store = RedisTaskStore(either)
    first = [await submitted(store) for _ in range(4)]
    last = await submitted(store, after=tuple(task.id for task in first))
    claims = await together(try_claim(store, task) for task in first)
    bells = await together(end(store, claim.lease) for claim in claims)
    rung = [bell.task_id for found in bells for bell in found]
    assert rung == [last.id]
    assert (await store.get("default", last.id)).status is TaskStatus.PENDING
    assert isinstance(await try_claim(store, last), Claim)


async def test_a_cancelled_caller_takes_no_other_claim_with_it(client: Redis) -> None:
    store = RedisTaskStore(client)
    tasks = [await submitted(store) for _ in range(3)]
    callers = [asyncio.create_task(try_claim(store, task)) for task in tasks]
    await asyncio.sleep(0)
    callers[1].cancel()
    await asyncio.wait(callers)
    assert callers[1].cancelled()
    assert isinstance(callers[0].result(), Claim)
    assert isinstance(callers[2].result(), Claim)


async def test_what_is_served_may_change_from_claim_to_claim(client: Redis) -> None:
    store = RedisTaskStore(client)
    served = ["other"]
    task = await submitted(store)
    for expected in ("unserved", None):
        claim = await store.claim(
            "default", task.id, worker="w", serves=served, lease_seconds=30
        )
        if expected:
            assert claim == expected
            served.append("researcher")
    assert isinstance(claim, Claim)
