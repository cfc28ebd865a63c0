"""Cancel, crash, finish and sweep in every order, on every store: each task ends once.

Seeded orders (`SEEDS=1000` for a thousand) of the steps that a client, two workers and
a sweeper take on one task. What a step may do depends on what it finds; whatever that
is, the state that is reached must be one that the table of transitions allows.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.events import EventType
from orchestrator.journal import Step, StepKind
from orchestrator.store import Claim, Lease, LeaseState
from orchestrator.task import Task, TaskStatus
from tests.conformance.conftest import OpenStores, Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    failed,
    try_claim,
)

SEEDS = int(os.environ.get("SEEDS", "150"))
STEPS = 9
SLOW_SEEDS = 20
"""Of the interpreter in Python that fakeredis runs scripts with."""


@dataclass
class Play:
    """One order of steps on a task, its leases and what was observed."""

    stores: Stores
    task: Task
    chance: random.Random
    leases: list[Lease] = field(default_factory=list)
    ends: list[tuple[int, TaskStatus]] = field(default_factory=list)
    """Fence and status of every end that was reported as done."""
    said: list[str] = field(default_factory=list)

    async def claim(self) -> None:
        worker = self.chance.choice(("w1", "w2"))
        claimed = await try_claim(self.stores.tasks, self.task, worker=worker)
        if isinstance(claimed, Claim):
            self.leases.append(claimed.lease)

    async def cancel(self) -> None:
        await self.stores.tasks.cancel("default", self.task.id)

    async def sweep(self) -> None:
        await self.stores.tasks.sweep()

    async def crash(self) -> None:
        await self.stores.tasks.bury(self.chance.choice(("w1", "w2")))

    async def renew(self) -> None:
        states = await self.stores.tasks.renew(self.leases, lease_seconds=30)
        live = [state for state in states if state is not LeaseState.LOST]
        assert len(live) <= 1
        assert all(state is LeaseState.LOST for state in states[:-1])

    async def step(self, lease: Lease) -> None:
        number = self.chance.randint(1, 2)
        step = Step(key=f"s{number}", kind=StepKind.CUSTOM, attempt=lease.fence)
        await self.stores.tasks.record_step(lease, step)

    async def finish(self, lease: Lease) -> None:
        ending = self.chance.choice((completed(lease), failed()))
        await self.stores.tasks.finish(lease, ending, running_seconds=0)
        self.ends.append((lease.fence, ending.status))

    async def release(self, lease: Lease) -> None:
        await self.stores.tasks.release(lease, running_seconds=0, reason="drain")

    async def by_a_holder(self, act: Callable[[Lease], Awaitable[None]]) -> None:
        """Let a worker write that has, or had, the lease."""
        if not self.leases:
            return
        lease = self.chance.choice(self.leases[-2:])
        before = await self.stores.tasks.get("default", self.task.id)
        holds = before.status is TaskStatus.RUNNING and before.attempt == lease.fence
        try:
            await act(lease)
        except LeaseLost:
            assert not holds
        else:
            after = await self.stores.tasks.get("default", self.task.id)
            assert holds or after == before, "an old fence has changed something"

    async def run(self) -> None:
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "claim": self.claim,
            "cancel": self.cancel,
            "sweep": self.sweep,
            "crash": self.crash,
            "renew": self.renew,
            "step": lambda: self.by_a_holder(self.step),
            "finish": lambda: self.by_a_holder(self.finish),
            "release": lambda: self.by_a_holder(self.release),
        }
        weights = (4, 1, 2, 1, 1, 2, 2, 1)
        for name in self.chance.choices([*acts], weights, k=STEPS):
            self.said.append(name)
            await acts[name]()

    async def settle(self) -> Task:
        """Let what is left take its course."""
        for worker in ("w1", "w2"):
            await self.stores.tasks.bury(worker)
        await self.stores.tasks.sweep()
        task = await self.stores.tasks.get("default", self.task.id)
        if not task.status.is_terminal:
            lease = (await claim(self.stores.tasks, task, worker="last")).lease
            await self.stores.tasks.finish(lease, completed(lease), running_seconds=0)
        return await self.stores.tasks.get("default", self.task.id)


async def played(stores: Stores, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    # Its own queue, so that no other seed's window or suspects are in the way.
    queue = f"q{seed}"
    (created,) = await stores.tasks.create([Task(agent_name=AGENT, queue=queue)])
    assert not isinstance(created, Exception)
    after = Task(agent_name=AGENT, queue=queue, after=(created.task.id,))
    await stores.tasks.create([after])
    play = Play(stores, created.task, chance)
    try:
        await play.run()
        task = await play.settle()
        await judge(stores, play, task)
        follower = await stores.tasks.get("default", after.id)
        await claim(stores.tasks, follower, worker="last")
    except BaseException as exc:
        exc.add_note(f"seed {seed}: {play.said}")
        raise


async def judge(stores: Stores, play: Play, task: Task) -> None:
    events = await stores.tasks.events("default", task.id)
    assert [event.sequence for event in events] == list(range(len(events)))
    ends = [event.type for event in events if event.type.is_end]
    assert ends == [EventType(f"task.{task.status}")]
    attempts = [event.attempt for event in events]
    assert attempts == sorted(attempts)
    fences = [lease.fence for lease in play.leases]
    assert fences == sorted(set(fences))
    assert len(play.ends) <= 1 or len(set(play.ends)) == 1
    for _, status in play.ends:
        assert task.status is status
    if "cancel" not in play.said:
        assert task.status is not TaskStatus.CANCELLED
    again = (await stores.tasks.cancel("default", task.id)).task
    assert again == task, "an ended task has changed"
    left = await stores.tasks.sweep()
    assert task.id not in {bell.task_id for bell in left.doorbells}


@pytest.mark.timeout(240)
async def test_a_task_ends_once_whatever_the_order(
    open_stores: OpenStores, request: pytest.FixtureRequest
) -> None:
    stores = open_stores()
    slow = "fakeredis" in request.node.callspec.id
    for seed in range(SLOW_SEEDS if slow else SEEDS):
        await played(stores, seed)
