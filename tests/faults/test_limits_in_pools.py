"""Time limits mean the same in every pool, whatever a run hangs in.

At the soft limit what hangs is ended and the model asked once more; at the hard one the
record ends, also where the pool cannot interrupt the code.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conversations.json_value import JsonObject
from orchestrator import AsyncOrchestrator
from orchestrator.orchestrator import AsyncTaskHandle
from orchestrator.task import Task, TaskStatus
from tests.faults.fleet import Fleet, choose, running_fleet
from tests.faults.restartable_redis import RestartableRedis
from workers.llm.double_script import HttpReply
from workers.llm.reply import ScriptedCall

pytestmark = pytest.mark.timeout(240)

SLOW = ("prefork", "threads", "solo")
POOLS = ["async", *(pytest.param(pool, marks=pytest.mark.slow) for pool in SLOW)]
SLOTS = {"async": 20, "prefork": 4, "threads": 20, "solo": 1}
STUCK_SECONDS = 5.0
"""How long the code that cannot be interrupted goes on: beyond every limit here."""
CLOSED_WITHIN_SECONDS = 4.0
"""Under 60 ms on a quiet machine; what is tested is that it does not wait."""

LIMITS = {"task": (1.0, 2.5), "agent": (1.2, 3.0), "settings": (1.4, 3.4)}
"""Soft and hard, by who gives them; the agent's stand in fault_agents.py."""
CALLS = {
    "async tool": ScriptedCall(name="hang", arguments={}),
    "blocking tool": ScriptedCall(name="block", arguments={"seconds": STUCK_SECONDS}),
    "computing tool": ScriptedCall(name="spin", arguments={"seconds": STUCK_SECONDS}),
    "blocked loop": ScriptedCall(
        name="spin_on_the_loop", arguments={"seconds": STUCK_SECONDS}
    ),
}


@dataclass(frozen=True)
class Case:
    """A run that gets stuck."""

    stuck_in: str
    limits_of: str = "task"
    closing: str = "answers"
    """What the model does when it is asked for the best answer so far."""

    @property
    def prompt(self) -> str:
        return f"{self.stuck_in}/{self.limits_of}/{self.closing}"


CASES = [
    *(
        Case(stuck_in, closing=closing)
        for stuck_in in ("completion", "stream", *CALLS)
        if stuck_in != "blocked loop"
        for closing in ("answers", "hangs")
    ),
    Case("completion", limits_of="agent"),
    Case("async tool", limits_of="agent", closing="hangs"),
    Case("completion", limits_of="settings"),
    Case("async tool", limits_of="settings", closing="hangs"),
]


@dataclass
class StuckModel:
    """The script of the endpoint; notes when a client left it."""

    asked: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    closed_at: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    streamed: set[str] = field(default_factory=set)

    async def __call__(self, body: JsonObject) -> HttpReply:
        messages = body["messages"]
        assert isinstance(messages, list)
        prompt = next(m["content"] for m in messages if m["role"] == "user")
        stuck_in, _, closing = prompt.split("/")
        self.asked[prompt] += 1
        if body.get("stream"):
            self.streamed.add(prompt)
        if self.asked[prompt] > 1:
            if closing == "answers":
                return HttpReply(text="What I have so far.")
            return await self._nothing(prompt)
        if stuck_in in CALLS:
            return HttpReply(tool_calls=(CALLS[stuck_in],))
        if stuck_in == "stream":
            return HttpReply(text="one two three", drip_seconds=600)
        return await self._nothing(prompt)

    async def _nothing(self, prompt: str) -> HttpReply:
        try:
            await asyncio.Event().wait()
        finally:
            self.closed_at[prompt].append(time.time())
        raise AssertionError


@pytest.fixture
def model() -> StuckModel:
    """What the endpoint does."""
    return StuckModel()


@pytest.fixture
async def fleet(
    server: RestartableRedis, tmp_path: Path, model: StuckModel
) -> AsyncIterator[Fleet]:
    """A fleet whose clients limit every run."""
    async with running_fleet(server, tmp_path, model=model) as fleet:
        limits = {"task_timeout": "1.4s", "time_limit_grace": "2s"}
        settings = fleet.stand.settings(services={"agent_manager": limits})
        async with AsyncOrchestrator(settings) as celeriac:
            fleet.celeriac = celeriac
            yield fleet


async def submitted(fleet: Fleet, case: Case) -> AsyncTaskHandle:
    agent = "limited" if case.limits_of == "agent" else "stuck"
    soft, hard = LIMITS["task"]
    limits = {"soft_time_limit": soft, "time_limit": hard}
    if case.limits_of != "task":
        limits = {}
    return await fleet.celeriac.submit(agent, {"prompt": case.prompt}, **limits)


async def watched_to_its_end(handle: AsyncTaskHandle) -> Task:
    """Read its events, so that its completions stream."""
    async with asyncio.timeout(90):
        async for _ in handle.events():
            pass
    return await handle.get()


@pytest.mark.parametrize("pool", POOLS)
async def test_limits_end_whatever_hangs(
    fleet: Fleet, model: StuckModel, pool: str
) -> None:
    await fleet.start_worker(*choose(pool), slots=SLOTS[pool])
    handles = [await submitted(fleet, case) for case in CASES]
    watching = [asyncio.create_task(watched_to_its_end(handle)) for handle in handles]
    tasks = await asyncio.gather(*watching)
    for case, task in zip(CASES, tasks, strict=True):
        assert_ended_as_it_should(case, task)
        if case.stuck_in == "completion":
            closed_at = model.closed_at[case.prompt][0]
            assert task.started_at is not None
            reached = task.started_at.timestamp() + LIMITS[case.limits_of][0]
            assert closed_at - reached < CLOSED_WITHIN_SECONDS, case
    assert {
        case.prompt for case in CASES if case.stuck_in == "stream"
    } <= model.streamed


def assert_ended_as_it_should(case: Case, task: Task) -> None:
    facts = (case, task.status, task.failure, task.result)
    assert task.attempt == 1, facts
    soft, hard = LIMITS[case.limits_of]
    assert task.soft_time_limit_seconds == soft, facts
    assert task.time_limit_seconds == hard, facts
    assert task.running_seconds >= soft * 0.9, facts
    if case.closing == "answers":
        assert task.status is TaskStatus.COMPLETED, facts
        assert task.result is not None
        assert task.result.partial, facts
        assert task.result.stop_reason == "soft_time_limit", facts
        assert task.result.content == "What I have so far.", facts
        return
    assert task.status is TaskStatus.TIMED_OUT, facts
    assert task.failure is not None
    assert task.failure.code == "time_limit", facts
    assert task.running_seconds >= hard * 0.9, facts


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["async", *SLOW])
async def test_code_that_blocks_the_loop_ends_its_record_and_is_named(
    fleet: Fleet, pool: str
) -> None:
    """Nothing interrupts it; once it lets go its record ends, and the log tells."""
    handle = await submitted(fleet, Case("blocked loop", closing="hangs"))
    worker = await fleet.start_worker(*choose(pool), slots=1)
    task = await watched_to_its_end(handle)
    assert task.status is TaskStatus.TIMED_OUT
    assert task.failure is not None
    assert task.failure.code == "time_limit"
    log = worker.text()
    assert "event loop is blocked" in log
    assert "spin_on_the_loop" in log
    # The worker goes on.
    next_one = await submitted(fleet, Case("completion", closing="answers"))
    assert (await next_one.result(timeout=60)).partial
