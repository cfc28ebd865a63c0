"""Messages on their way to workers, as Redis counts and sends them."""

from __future__ import annotations

from redis.asyncio import Redis

from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import RefusalReason
from orchestrator.task import TaskStatus
from tests.conformance.conftest import _on_redis
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    submit,
    submitted,
    try_claim,
    worker,
)
from tests.conformance.test_task_suspects import prime_suspects

LIST = "q\x06\x163"
"""Where kombu keeps messages of the default priority."""
MESSAGE = '{"queue": "$QUEUE", "task": "$TASK"}'


async def test_a_task_is_accepted_and_ends_though_its_queue_is_no_list(
    client: Redis,
) -> None:
    store = RedisTaskStore(client, doorbell_message=MESSAGE)
    await client.set(LIST, "not a list")
    first = await submit(store, queue="q", conversation_id="c", idempotency_key="k")
    second = await submitted(store, queue="q", conversation_id="c")
    assert [bell.task_id for bell in first.doorbells] == [first.task.id]
    assert not (
        await submit(store, queue="q", conversation_id="c", idempotency_key="k")
    ).created
    lease = (await claim(store, first.task)).lease
    bells = await store.finish(lease, completed(lease), running_seconds=0)
    assert [bell.task_id for bell in bells] == [second.id]
    ended = await store.get("default", first.task.id)
    assert ended.status is TaskStatus.COMPLETED
    await client.delete(LIST)
    third = await submit(store, queue="q")
    assert third.doorbells == ()
    assert await client.llen(LIST) == 1


async def test_the_message_of_an_ended_task_counts_while_it_may_be_on_its_way(
    client: Redis,
) -> None:
    store = RedisTaskStore(client, dispatch_window=1, resend_seconds=1000)
    taken = await submitted(store)
    await claim(store, taken)
    ended, waits = await submitted(store), await submitted(store)
    await store.cancel("default", ended.id)
    assert (await store.sweep()).doorbells == ()
    assert await try_claim(store, ended) is RefusalReason.ENDED
    assert [bell.task_id for bell in (await store.sweep()).doorbells] == [waits.id]


async def test_a_prime_suspect_that_was_refused_is_not_rung_for_at_once(
    client: Redis,
) -> None:
    """The next bell may well reach the same worker."""
    stores = _on_redis(client)
    for number in range(20):
        info = worker(AGENT, worker_id=f"live-{number}")
        await stores.directory.announce(info, ttl_seconds=60)
    first, second, third, *_ = await prime_suspects(stores, 16)
    for task in (first, second):
        await claim(stores.tasks, task, worker="x")
    refused = await try_claim(stores.tasks, third, worker="x")
    assert refused is RefusalReason.SUSPECT
    healthy = await claim(stores.tasks, await submitted(stores.tasks), worker="x")
    assert third.id not in [bell.task_id for bell in healthy.doorbells]
