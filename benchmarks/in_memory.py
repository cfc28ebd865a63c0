"""A worker whose store is its own memory: what the agent jobs cost without durability.

The same pool, transport, executor, agent and messages as a worker of Celeriac; records,
journals, events and conversations live in this process and die with it.
"""

from __future__ import annotations

import asyncio
import copy
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pydantic.main
import redis
from celery import Celery, signals

from benchmarks import jobs
from conversations.message import Message
from orchestrator import memory_ledger
from orchestrator.celery_settings import celery_settings
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.settings import load_settings
from workers.broker_link import BrokerLink, lean_broker
from workers.executor import Executor
from workers.greenlet_bridge import await_
from workers.in_process import ExecutorQueue, open_orchestrator

READY, ENDED = "in-memory:ready", "in-memory:ended"
"""Where the ids of prepared tasks are told, and that the last one has ended."""

if os.environ.get("IN_MEMORY_COPIES") == "none":
    # The store in memory hands out copies, so that no caller can change what it keeps;
    # that costs a fifth of a job and is no part of what a job needs.
    copy.deepcopy = pydantic.main.deepcopy = lambda value, *_, **__: value
    memory_ledger.deepcopy = copy.deepcopy

app = Celery(
    "in_memory", set_as_current=False, include=["benchmarks.jobs"], amqp=BrokerLink
)
app.config_from_object(celery_settings(load_settings()))
app.conf.broker_transport_options |= {"accept_tasks": ["memory.prepare", "memory.run"]}


def _on_the_lean_transport(conf: Any, **_: Any) -> None:
    conf.update(lean_broker(conf.broker_url))


signals.celeryd_init.connect(_on_the_lean_transport, weak=False)


@dataclass
class System:
    """Stores in memory and who runs their tasks, on the pool's loop."""

    celeriac: AsyncOrchestrator
    executor: Executor
    left: int = 0
    """Tasks that were prepared and have not ended."""


_systems: list[System] = []
_stack = AsyncExitStack()


async def opened() -> System:
    """Return the process's system; its queue rings for nobody, Celery's does."""
    if not _systems:
        celeriac = await _stack.enter_async_context(open_orchestrator())
        queue: Any = celeriac._parts.queue
        assert isinstance(queue, ExecutorQueue)
        executor, queue.executor = queue.executor, None
        assert executor is not None
        _systems.append(System(celeriac, executor))
    return _systems[0]


async def prepare_tasks(kind: str, numbers: list[int]) -> list[str]:
    """Create what a client of Celeriac would have created in Redis."""
    system = await opened()
    history = [Message.model_validate(each) for each in jobs.HISTORY]
    requests: list[dict[str, Any]] = []
    for number in numbers:
        name = f"c{number}"
        request: dict[str, Any] = {"agent": kind, "input": {"prompt": jobs.QUESTION}}
        if kind == "agent":
            await system.celeriac.conversations.create(conversation_id=name)
            await system.celeriac.conversations.add_messages(name, history)
            request["conversation_id"] = name
        requests.append(request)
    handles = await system.celeriac.submit_many(requests)
    system.left += len(handles)
    await asyncio.sleep(0)
    return [handle.id for handle in handles]


@app.task(name="memory.prepare")
def prepare(kind: str, numbers: list[int]) -> None:
    ids = await_(prepare_tasks(kind, numbers))
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as db:
        db.rpush(READY, *ids)


@app.task(name="memory.run")
def run(tenant: str, task_id: str) -> str:
    system = await_(opened())
    outcome = await_(system.executor.run(tenant, task_id))
    system.left -= 1
    if not system.left:
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as db:
            db.rpush(ENDED, outcome.word)
    return outcome.word
