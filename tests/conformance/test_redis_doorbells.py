"""A queue whose key holds something foreign cuts no change of a task in two."""

from __future__ import annotations

from redis.asyncio import Redis

from orchestrator.redis_store import RedisTaskStore
from orchestrator.task import TaskStatus
from tests.conformance.task_steps import claim, completed, submit, submitted

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
