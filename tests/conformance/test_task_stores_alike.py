"""The store in memory and the one on Redis answer alike, whatever they are asked.

Seeded orders (`SEEDS=1000` for a thousand) of what clients, workers and a sweeper do
to a few tasks that share a conversation, wait for each other and repeat their keys.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import pytest
from pydantic import BaseModel

from conversations.memory_store import InMemoryConversationStore
from orchestrator.errors import LeaseLost, OrchestratorError
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Action, Decision, Step, StepKind, StepStart
from orchestrator.memory_directory import utc_now
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.redis_connection import connect
from orchestrator.redis_store import RedisTaskStore
from orchestrator.store import (
    Claim,
    Doorbell,
    Ending,
    FirstStep,
    LastStep,
    Lease,
    TaskStore,
)
from orchestrator.task import AwaitedCall, Task, TaskFailure, TaskResult, TaskStatus
from tests.conformance.task_steps import AGENT, failed, turn

SEEDS = int(os.environ.get("SEEDS", "5"))
STEPS = 40
WORKERS = ("w1", "w2")
TERMS: Any = {"dispatch_window": 64, "resend_seconds": 3600}
"""No message is doubted meanwhile, however slow the machine is."""
TIMES = {"at", "ordinal", "running_seconds"}
Act = Callable[[TaskStore, dict[tuple[str, int], Lease]], Awaitable[object]]


def timeless(value: object) -> object:
    """Leave out what two clocks and two counters make of the same change."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {
            key: timeless(each)
            for key, each in value.items()
            if not key.endswith("_at") and key not in TIMES and key != "seconds"
        }
    if isinstance(value, datetime):
        return None
    if isinstance(value, Lease):
        return tuple(value)[:4]
    if isinstance(value, list | tuple) and value and isinstance(value[0], Doorbell):
        return sorted(bell.task_id for bell in value)
    if isinstance(value, list | tuple):
        return [timeless(each) for each in value]
    return value


class Script:
    """Draws what is done; knows only ids."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.seed = seed
        self.ids = [f"t{seed}-{number}" for number in range(6)]
        self.made = 0

    def task(self) -> Task:
        chance = self.chance
        task_id = self.ids[self.made % len(self.ids)]
        self.made += 1
        fields: dict[str, Any] = {"agent_name": AGENT, "id": task_id}
        fields["input"] = {"prompt": chance.choice("ab")}
        fields["priority"] = chance.choice((4, 4, 9))
        if chance.random() < 0.5:
            fields["conversation_id"] = f"talk{self.seed}"
            fields["when_busy"] = chance.choice(
                ("enqueue", "enqueue", "reject", "interrupt", "rollback", "steer")
            )
        if chance.random() < 0.3:
            fields["after"] = tuple(
                chance.sample([i for i in self.ids if i != task_id], 2)
            )
        if chance.random() < 0.3:
            fields["idempotency_key"] = chance.choice(("k1", "k2")) + f"-{self.seed}"
        elif chance.random() < 0.2 and "conversation_id" not in fields:
            fields["cache_ttl_seconds"] = 60.0
        if chance.random() < 0.1:
            fields["not_before"] = utc_now() + timedelta(hours=1)
        if chance.random() < 0.1:
            fields["expires_seconds"] = 3600.0
        if chance.random() < 0.2:
            fields["webhook"] = "https://hooks.example.com/end"
        return Task(**fields)

    def act(self) -> tuple[str, Act]:
        names = (
            "create",
            "claim",
            "cancel",
            "sweep",
            "bury",
            "renew",
            "step",
            "start",
            "drop",
            "take",
            "events",
            "release",
            "fail",
            "park",
            "resolve",
            "finish",
            "delete",
            "ends",
            "surrender",
            "watch",
        )
        weights = (7, 9, 2, 2, 1, 1, 4, 3, 1, 3, 1, 1, 1, 2, 3, 5, 1, 1, 1, 1)
        name = self.chance.choices(names, weights)[0]
        return name, getattr(self, name)()

    def holder(self) -> tuple[str, int]:
        """Who writes: a task, and how many claims ago its lease was given."""
        return self.chance.choice(self.ids), self.chance.choice((0, 0, 0, 1))

    def create(self) -> Act:
        tasks = [self.task() for _ in range(self.chance.choice((1, 1, 2)))]

        async def act(store: TaskStore, leases: Any) -> object:
            made = await store.create([task.model_copy(deep=True) for task in tasks])
            return [
                type(each).__name__
                if isinstance(each, Exception)
                else (each.task.id, each.created, timeless(each.doorbells))
                for each in made
            ]

        return act

    def claim(self) -> Act:
        task_id, worker = self.chance.choice(self.ids), self.chance.choice(WORKERS)
        start = StepStart(key="completion:1", kind=StepKind.COMPLETION)
        agents = {AGENT} if self.chance.random() < 0.5 else set()
        first = FirstStep(start, agents)

        async def act(store: TaskStore, leases: Any) -> object:
            claim = await store.claim(
                "default",
                task_id,
                worker=worker,
                serves=[AGENT],
                lease_seconds=3600,
                first=first,
            )
            if isinstance(claim, Claim):
                leases.setdefault(task_id, []).append(claim.lease)
                # Marks and decisions have no order.
                starts = tuple(sorted(claim.starts, key=attrgetter("key")))
                decisions = tuple(sorted(claim.decisions, key=attrgetter("key")))
                claim = claim._replace(starts=starts, decisions=decisions)
                return claim._replace(deadline_left_seconds=None, has_mail=None)
            return claim

        return act

    def cancel(self) -> Act:
        task_id = self.chance.choice(self.ids)

        async def act(store: TaskStore, leases: Any) -> object:
            return (await store.cancel("default", task_id)).task

        return act

    def sweep(self) -> Act:
        async def act(store: TaskStore, leases: Any) -> object:
            report = await store.sweep()
            return timeless(report.doorbells), report.recovered, report.ended

        return act

    def bury(self) -> Act:
        worker = self.chance.choice(WORKERS)
        return lambda store, leases: store.bury(worker)

    def renew(self) -> Act:
        async def act(store: TaskStore, leases: Any) -> object:
            return await store.renew(
                [lease for mine in leases.values() for lease in mine],
                lease_seconds=3600,
            )

        return act

    def surrender(self) -> Act:
        task_id, back = self.holder()
        blamed = self.chance.random() < 0.5

        async def act(store: TaskStore, leases: Any) -> object:
            lease = held(leases, task_id, back)
            await store.surrender([lease], blamed=lease if blamed else None)

        return act

    def by_holder(self, do: Callable[[TaskStore, Lease], Awaitable[object]]) -> Act:
        task_id, back = self.holder()

        async def act(store: TaskStore, leases: Any) -> object:
            return await do(store, held(leases, task_id, back))

        return act

    def by_last_act(self, do: Callable[[TaskStore, Lease], Awaitable[object]]) -> Act:
        async def once(store: TaskStore, lease: Lease) -> object:
            await still_runs(store, lease)
            return await do(store, lease)

        return self.by_holder(once)

    def step(self) -> Act:
        number = self.chance.randint(1, 3)
        tool = self.chance.random() < 0.5
        key = f"tool:c{number}" if tool else f"completion:{number}"
        kind = StepKind.TOOL_CALL if tool else StepKind.COMPLETION
        then = (
            StepStart(key=f"completion:{number + 1}", kind=StepKind.COMPLETION)
            if self.chance.random() < 0.3
            else None
        )
        said = None if tool else f"said {number}"
        step = Step(key=key, kind=kind, outcome={"n": number}, said=said)
        return self.by_holder(
            lambda store, lease: store.record_step(
                lease, step, [NewEvent(type=EventType.PROGRESS, data={})], then=then
            )
        )

    def start(self) -> Act:
        number = self.chance.randint(1, 3)
        tool = self.chance.random() < 0.5
        start = StepStart(
            key=f"tool:c{number}" if tool else f"completion:{number}",
            kind=StepKind.TOOL_CALL if tool else StepKind.COMPLETION,
        )
        return self.by_holder(lambda store, lease: store.start_step(lease, start))

    def drop(self) -> Act:
        key = self.chance.choice(("tool:c1", "completion:1", "completion:2"))
        return self.by_holder(lambda store, lease: store.drop_start(lease, key))

    def take(self) -> Act:
        key = f"messages:{self.chance.randint(1, 3)}"
        return self.by_holder(lambda store, lease: store.take_messages(lease, key))

    def events(self) -> Act:
        return self.by_holder(
            lambda store, lease: store.append_events(
                lease, [NewEvent(type=EventType.PROGRESS, data={})]
            )
        )

    def release(self) -> Act:
        return self.by_last_act(
            lambda store, lease: store.release(lease, running_seconds=1, reason="drain")
        )

    def fail(self) -> Act:
        delay = self.chance.choice((0.0, 3600.0))
        failure = TaskFailure(code="boom", message="It broke.", attempt=1)
        return self.by_last_act(
            lambda store, lease: store.release(
                lease,
                running_seconds=1,
                delay_seconds=delay,
                reason="again",
                failure=failure,
            )
        )

    def park(self) -> Act:
        calls = [
            AwaitedCall(call_id=f"c{n}", tool="pay")
            for n in self.chance.sample((1, 2), self.chance.choice((1, 2)))
        ]
        return self.by_last_act(
            lambda store, lease: store.park(lease, calls, running_seconds=1)
        )

    def resolve(self) -> Act:
        task_id = self.chance.choice(self.ids)
        decision = Decision(
            key=f"tool:c{self.chance.randint(1, 2)}",
            action=self.chance.choice([*Action]),
        )
        return lambda store, leases: store.resolve("default", task_id, decision)

    def finish(self) -> Act:
        well, spoken = self.chance.random() < 0.7, self.chance.random() < 0.7
        key = f"completion:{self.chance.randint(1, 3)}"
        step = Step(key=key, kind=StepKind.COMPLETION, outcome="last", said="so")
        told = (NewEvent(type=EventType.COMPLETION_RECORDED, data={}),)
        last = LastStep(step, told) if self.chance.random() < 0.5 else None

        async def do(store: TaskStore, lease: Lease) -> object:
            ending = failed()
            if well:
                ending = Ending(
                    status=TaskStatus.COMPLETED,
                    result=TaskResult(task_id=lease.task_id, content="done"),
                    turn=turn("hi") if spoken else None,
                )
            return await store.finish(lease, ending, running_seconds=1, last=last)

        return self.by_last_act(do)

    def delete(self) -> Act:
        task_id = self.chance.choice(self.ids)
        return lambda store, leases: store.delete("default", task_id)

    def watch(self) -> Act:
        task_id = self.chance.choice(self.ids)
        return lambda store, leases: store.watch("default", task_id, seconds=60)

    def ends(self) -> Act:
        return lambda store, leases: store.ends("default", self.ids)


async def still_runs(store: TaskStore, lease: Lease) -> None:
    """Repeat no end of an attempt: only a store that loses answers allows for it."""
    task = await store.get(lease.tenant, lease.task_id)
    if task.attempt == lease.fence and task.status is not TaskStatus.RUNNING:
        raise LeaseLost(lease.task_id, fence=lease.fence)


def held(leases: dict[str, list[Lease]], task_id: str, back: int) -> Lease:
    mine = leases.get(task_id, [])
    return mine[-1 - back] if len(mine) > back else Lease("default", task_id, 77, "w9")


async def outcome(act: Act, store: TaskStore, leases: Any) -> object:
    try:
        return timeless(await act(store, leases))
    except OrchestratorError as exc:
        return type(exc).__name__


async def state(store: TaskStore, ids: list[str]) -> list[object]:
    found: list[object] = []
    for task_id in ids:
        try:
            task = await store.get("default", task_id)
            events = await store.events("default", task_id)
            steps = await store.steps("default", task_id)
            found.append([timeless(each) for each in (task, events, steps)])
        except OrchestratorError as exc:
            found.append(type(exc).__name__)
    return found


@pytest.mark.timeout(240)
async def test_the_stores_answer_alike(clean_redis_url: str) -> None:
    for seed in range(SEEDS):
        client = connect(clean_redis_url)
        await client.flushdb()
        script = Script(seed)
        kinds: list[TaskStore] = [
            InMemoryTaskStore(conversations=InMemoryConversationStore(), **TERMS),
            RedisTaskStore(client, **TERMS),
        ]
        leases: list[Any] = [{}, {}]
        said: list[str] = []
        try:
            for _ in range(STEPS):
                name, act = script.act()
                said.append(name)
                one, other = [
                    await outcome(act, store, held)
                    for store, held in zip(kinds, leases, strict=True)
                ]
                assert one == other
                one, other = [await state(store, script.ids) for store in kinds]
                assert one == other
        except BaseException as exc:
            exc.add_note(f"seed {seed}: {said}")
            raise
        finally:
            await client.aclose()
