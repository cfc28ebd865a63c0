"""Many viewers of many logs share a connection, and none waits longer for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator import redis_keys
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import Claim, Ending
from orchestrator.task import Task, TaskResult, TaskStatus

VIEWERS = 300


@pytest.fixture
async def store(clean_redis_url: str) -> AsyncIterator[RedisTaskStore]:
    store = RedisTaskStore(connect(clean_redis_url))
    yield store
    await store.aclose()


async def finish(store: RedisTaskStore, task: Task) -> None:
    claim = await store.claim(
        task.tenant, task.id, worker="w", serves=["a"], lease_seconds=60
    )
    assert isinstance(claim, Claim)
    ending = Ending(
        status=TaskStatus.COMPLETED, result=TaskResult(task_id=task.id, content="ok")
    )
    await store.finish(claim.lease, ending, running_seconds=0)


async def view(store: RedisTaskStore, task: Task) -> float:
    """Read to the end event; return the loop's time then."""
    after = -1
    while True:
        events = await store.events(task.tenant, task.id, after=after, wait_seconds=2)
        for event in events:
            after = event.sequence
            if event.type.is_end:
                return asyncio.get_running_loop().time()


async def test_hundreds_of_viewers_wait_on_few_connections(
    store: RedisTaskStore, clean_redis_url: str
) -> None:
    tasks = [Task(agent_name="a") for _ in range(VIEWERS)]
    await store.create(tasks)
    viewers = [asyncio.create_task(view(store, task)) for task in tasks]
    await asyncio.sleep(0.5)
    other = connect(clean_redis_url)
    assert len(await other.client_list()) < 80
    await other.aclose()
    await asyncio.gather(*(finish(store, task) for task in tasks))
    async with asyncio.timeout(10):
        await asyncio.gather(*viewers)


async def test_a_new_viewer_is_told_at_once_although_others_wait(
    store: RedisTaskStore,
) -> None:
    quiet, lively = Task(agent_name="a"), Task(agent_name="a")
    await store.create([quiet, lively])
    waiting = asyncio.create_task(view(store, quiet))
    await asyncio.sleep(0.1)
    viewer = asyncio.create_task(view(store, lively))
    await asyncio.sleep(0.1)
    await finish(store, lively)
    finished = asyncio.get_running_loop().time()
    assert await asyncio.wait_for(viewer, 5) - finished < 0.5
    waiting.cancel()


async def test_a_lost_connection_is_the_viewers_error_and_the_next_wait_works(
    store: RedisTaskStore, clean_redis_url: str
) -> None:
    task = Task(agent_name="a")
    await store.create([task])
    viewer = asyncio.create_task(view(store, task))
    await asyncio.sleep(0.2)
    other = connect(clean_redis_url)
    await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.wait({viewer}, timeout=0.5)
    if viewer.done():
        assert viewer.exception() is not None
        viewer = asyncio.create_task(view(store, task))
    await finish(store, task)
    await asyncio.wait_for(viewer, 5)
    assert await other.exists(redis_keys.log(task.tenant, task.id))
    await other.aclose()
