"""What is stored is rung for and told of, whatever stops a submit of many."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import pytest

from orchestrator import task_submission
from orchestrator.agent_config import AgentConfig, WorkerInfo
from orchestrator.errors import IdempotencyConflict, InvalidInput, StoreFull
from orchestrator.memory_store import InMemoryTaskStore
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.store import Creation, Doorbell
from orchestrator.task import MOST_AFTER, Task
from tests.unit.orchestrator.test_orchestrator import DeafQueue, orchestrator

ASK = {"agent": "a"}


class FillsUp(InMemoryTaskStore):
    """Takes so many tasks, then no more."""

    room = 1200

    async def create(
        self,
        tasks: Sequence[Task],
        *,
        answers: list[Creation | Exception] | None = None,
        known_agents: Collection[str] = (),
        are_new: bool = False,
    ) -> tuple[Creation | Exception, ...]:
        taken = tasks[: self.room]
        made = await super().create(taken, answers=answers)
        self.room -= len(taken)
        if len(taken) < len(tasks):
            raise StoreFull("full")
        return made


class Listening(DeafQueue):
    def __init__(self) -> None:
        self.rung: list[str] = []

    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        self.rung += [bell.task_id for bell in doorbells]


async def stored(celeriac: AsyncOrchestrator) -> set[str]:
    found: set[str] = set()
    cursor = None
    while True:
        page = await celeriac.list(limit=1000, cursor=cursor)
        found |= {task.id for task in page.tasks}
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_who_was_stored_before_the_failure_is_rung_for_and_named() -> None:
    queue = Listening()
    store = FillsUp(dispatch_window=5000)
    async with orchestrator(store, queue=queue) as celeriac:
        with pytest.raises(StoreFull, match="1200 of 2500 tasks are accepted") as told:
            await celeriac.submit_many([ASK] * 2500)
        assert len(told.value.accepted) == 1200
        assert set(told.value.accepted) == set(queue.rung) == await stored(celeriac)
        assert all(name in str(told.value) for name in told.value.accepted[:3])
        with pytest.raises(StoreFull) as alone:
            await celeriac.submit("a", {})
        assert alone.value.accepted == ()


async def test_a_chain_that_breaks_names_what_comes_before() -> None:
    store = FillsUp()
    store.room = 3
    async with orchestrator(store) as celeriac:
        with pytest.raises(StoreFull, match="3 of 4 tasks are accepted") as told:
            await celeriac.submit_many([ASK, ASK], then=[ASK, ASK])
        assert set(told.value.accepted) == await stored(celeriac)


async def test_the_others_of_a_refused_request_are_named() -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        known = await celeriac.submit("a", {}, idempotency_key="k")
        conflict = {**ASK, "input": {"other": 1}, "idempotency_key": "k"}
        with pytest.raises(IdempotencyConflict, match="2 of 3 tasks are") as told:
            await celeriac.submit_many([ASK, conflict, ASK])
        assert {*told.value.accepted, known.id} == await stored(celeriac)


@pytest.mark.parametrize(
    ("requests", "then", "field"),
    [
        ([ASK] * (MOST_AFTER + 1), [ASK], "then[0]"),
        (
            [ASK],
            [ASK, {**ASK, "after": [f"t{n}" for n in range(MOST_AFTER)]}],
            "then[1]",
        ),
        ([ASK], {**ASK, "tenant": "other"}, "then"),
        ([ASK, {**ASK, "tenant": "other"}], ASK, "then"),
    ],
)
async def test_a_chain_that_could_not_run_is_refused_before_anything_is_stored(
    requests: list[dict[str, object]], then: object, field: str
) -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        with pytest.raises(InvalidInput) as told:
            await celeriac.submit_many(requests, then=then)
        assert told.value.field == field
        assert await stored(celeriac) == set()


async def test_what_runs_after_many_waits_for_its_own_others_too() -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        other = await celeriac.submit("a", {})
        then = {**ASK, "after": [other.id]}
        first, second, last = await celeriac.submit_many([ASK, ASK], then=then)
        assert (await last.get()).after == (other.id, first.id, second.id)


class HangingQueue(DeafQueue):
    async def enqueue(self, doorbells: Sequence[Doorbell]) -> None:
        await asyncio.Event().wait()


async def test_a_broker_that_hangs_holds_no_submit_and_no_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task_submission, "ANSWER_SECONDS", 0.05)
    async with (
        asyncio.timeout(10),
        orchestrator(InMemoryTaskStore(), queue=HangingQueue()) as celeriac,
    ):
        first = await celeriac.submit("a", {})
        second = await celeriac.submit("a", {}, after=[first.id])
        await first.cancel()  # rings for the second
    assert "the broker did not take the message in time" in str(first.warning)
    assert "no live worker" in str(second.warning)


@pytest.mark.parametrize("rule", ["run", "fail"])
async def test_a_retry_has_done_again_only_what_it_needs_the_answer_of(
    rule: str,
) -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        first = await celeriac.submit("a", {})
        second = await celeriac.submit("a", {}, after=[first.id], after_failure=rule)
        for handle in (second, first):
            await handle.cancel()
        again = await (await celeriac.retry(second.id)).get()
        assert (again.after == (first.id,)) is (rule == "run")


def test_a_task_cannot_wait_for_itself() -> None:
    with pytest.raises(ValueError, match="must not name the task itself"):
        Task(id="t", agent_name="a", after=("t",))


async def test_a_second_retry_returns_the_first_and_does_nothing_again() -> None:
    """Also when what it needed was retried with it and failed again."""
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        first = await celeriac.submit("a", {})
        second = await celeriac.submit("a", {}, after=[first.id], after_failure="fail")
        for handle in (second, first):
            await handle.cancel()
        again = await celeriac.retry(second.id)
        (needed,) = (await again.get()).after
        await again.cancel()
        await celeriac.cancel(needed)
        assert (await celeriac.retry(second.id)).id == again.id
        assert len((await celeriac.list()).tasks) == 4
        await celeriac.delete(again.id)
        assert (await celeriac.retry(second.id)).created


async def test_the_end_of_a_long_chain_is_retried_from_its_beginning() -> None:
    number = 400
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        chain = [await celeriac.submit("a", {})]
        for _ in range(1, number):
            before = [chain[-1].id]
            chain += [
                await celeriac.submit("a", {}, after=before, after_failure="fail")
            ]
        for handle in reversed(chain):
            await handle.cancel()
        waiting = await (await celeriac.retry(chain[-1].id)).get()
        depth = 1
        while waiting.after:
            waiting = await celeriac.get(waiting.after[0])
            depth += 1
        assert (depth, waiting.metadata) == (number, {})


async def test_what_two_need_is_retried_once_and_again_where_that_failed_too() -> None:
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        root = await celeriac.submit("a", {})
        left = await celeriac.submit("a", {}, after=[root.id], after_failure="fail")
        both = [left.id, root.id]
        last = await celeriac.submit("a", {}, after=both, after_failure="fail")
        for handle in (last, left, root):
            await handle.cancel()
        second = await celeriac.retry(root.id)
        await second.cancel()
        waits = (await (await celeriac.retry(last.id)).get()).after
        third = await celeriac.retry(second.id)
        assert waits == ((await celeriac.retry(left.id)).id, third.id)
        assert (await celeriac.get(waits[0])).after == (third.id,)
        assert len((await celeriac.list()).tasks) == 7


async def test_a_repeat_is_the_same_request_whatever_its_agents_limits_are_by_now() -> (
    None
):
    async with orchestrator(InMemoryTaskStore()) as celeriac:
        first = await celeriac.submit("a", {}, idempotency_key="k")
        limited = AgentConfig(name="a", soft_time_limit_seconds=60)
        info = WorkerInfo(id="w", hostname="h", pid=1, agents=(limited,))
        await celeriac._parts.directory.announce(info, ttl_seconds=10)
        unlike = await celeriac.submit("a", {}, idempotency_key="another")
        assert unlike.accepted.soft_time_limit_seconds == 60
        again = await celeriac.submit("a", {}, idempotency_key="k")
        assert (again.id, again.created) == (first.id, False)
        with pytest.raises(IdempotencyConflict):
            await celeriac.submit("a", {}, idempotency_key="k", soft_time_limit=60)
        with pytest.raises(IdempotencyConflict):
            await celeriac.submit("a", {"q": 1}, idempotency_key="k")
