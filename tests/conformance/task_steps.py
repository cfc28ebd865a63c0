"""The steps that tests of task stores take: submit, claim, sweep, finish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from conversations.conversation import ConversationConfig
from conversations.message import Message, Role
from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.dues import Entry, Needs
from orchestrator.events import EventType, NewEvent
from orchestrator.gate import Caller, GateLimits
from orchestrator.journal import Step, StepKind, StepStart
from orchestrator.store import (
    Claim,
    Creation,
    Ending,
    FirstStep,
    LastStep,
    Lease,
    TaskStore,
    Turn,
)
from orchestrator.task import AwaitedCall, Task, TaskFailure, TaskResult, TaskStatus

AGENT = "researcher"
WORKER = "host:1:1"
DEADLINE_SECONDS = 10.0


async def submit(store: TaskStore, **fields: Any) -> Creation:
    (creation,) = await store.create([Task(**{"agent_name": AGENT} | fields)])
    assert isinstance(creation, Creation), creation
    return creation


async def submitted(store: TaskStore, **fields: Any) -> Task:
    return (await submit(store, **fields)).task


async def try_claim(
    store: TaskStore,
    task: Task,
    *,
    worker: str = WORKER,
    lease_seconds: float = 30.0,
    first: FirstStep | None = None,
) -> object:
    return await store.claim(
        task.tenant,
        task.id,
        worker=worker,
        serves=[AGENT],
        lease_seconds=lease_seconds,
        first=first,
    )


async def claim(store: TaskStore, task: Task, **options: Any) -> Claim:
    claimed = await try_claim(store, task, **options)
    assert isinstance(claimed, Claim), claimed
    return claimed


async def running(store: TaskStore, **fields: Any) -> Lease:
    return (await claim(store, await submitted(store, **fields))).lease


def completed(lease: Lease, content: str = "done", **fields: Any) -> Ending:
    result = TaskResult(task_id=lease.task_id, content=content, **fields)
    return Ending(status=TaskStatus.COMPLETED, result=result)


def failed(code: str = "boom") -> Ending:
    failure = TaskFailure(code=code, message="It broke; mend it.", attempt=1)
    return Ending(status=TaskStatus.FAILED, failure=failure)


def turn(*contents: str) -> Turn:
    messages = tuple(Message(role=Role.USER, content=content) for content in contents)
    return Turn(messages=messages, config=ConversationConfig())


def worker(*agents: str, worker_id: str = WORKER) -> WorkerInfo:
    return WorkerInfo(
        id=worker_id,
        hostname="celery@host",
        pid=1,
        agents=tuple(AgentConfig(name=agent) for agent in agents),
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until the condition holds, for a bounded time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def sweep_until(store: TaskStore, task: Task, status: TaskStatus) -> Task:
    """Sweep until the task has a status."""

    async def reached() -> bool:
        await store.sweep()
        return (await store.get(task.tenant, task.id)).status is status

    await until(reached)
    return await store.get(task.tenant, task.id)


async def event_types(store: TaskStore, task: Task) -> list[str]:
    return [event.type.value for event in await store.events(task.tenant, task.id)]


_LATE = StepStart(key="late", kind=StepKind.COMPLETION)
_CALL = AwaitedCall(call_id="late", tool="pay", arguments={}, reason="unknown_outcome")
_TOLD = [NewEvent(type=EventType.PROGRESS, data={})]
_LAST = LastStep(Step(key="late", kind=StepKind.CUSTOM), (*_TOLD,))
_CALLER = Caller(token="late", tenant="default", task_id="late", tokens=1)  # noqa: S106
_NEEDS = Needs(Entry("late", GateLimits(in_flight=1), _CALLER))

FENCED_WRITES: list[Callable[[TaskStore, Lease], Awaitable[object]]] = [
    lambda store, lease: store.record_step(
        lease, Step(key="late", kind=StepKind.CUSTOM), _TOLD, then=_LATE
    ),
    lambda store, lease: store.start_step(lease, _LATE),
    lambda store, lease: store.admit_step(lease, _LATE, _NEEDS),
    lambda store, lease: store.drop_start(lease, _LATE.key),
    lambda store, lease: store.take_messages(lease, "messages:late"),
    lambda store, lease: store.append_events(lease, _TOLD),
    lambda store, lease: store.release(lease, running_seconds=9, reason="late"),
    lambda store, lease: store.park(lease, [_CALL], running_seconds=9),
    lambda store, lease: store.finish(lease, completed(lease), running_seconds=9),
    lambda store, lease: store.finish(
        lease, failed("late"), running_seconds=9, last=_LAST
    ),
]
"""Everything that only the holder of a lease may write."""
