"""Start marks, parking and decisions, on every store."""

from __future__ import annotations

import pytest

from orchestrator.errors import InvalidInput, LeaseLost, TaskNotFound
from orchestrator.journal import Action, Decision, Step, StepKind, StepStart
from orchestrator.memory_directory import utc_now
from orchestrator.store import Claim, Lease, RefusalReason, Started
from orchestrator.task import AwaitedCall, Task, TaskStatus
from tests.conformance.conftest import Stores
from tests.conformance.task_steps import (
    AGENT,
    claim,
    completed,
    event_types,
    running,
    submitted,
    sweep_until,
    try_claim,
    until,
)

COMPLETION = StepStart(key="completion:1", kind=StepKind.COMPLETION)
CALL = StepStart(key="tool:1:a", kind=StepKind.TOOL_CALL, facts={"tool": "pay"})
AWAITED = AwaitedCall(call_id="1:a", tool="pay", arguments={"list": [], "ä": 1})
DONE = Decision(key="tool:1:a", action=Action.DONE, output={"id": []})


def undated(decisions: tuple[Decision, ...]) -> list[Decision]:
    assert all(decision.decided_at for decision in decisions)
    return [each.model_copy(update={"decided_at": None}) for each in decisions]


async def released(stores: Stores, lease: Lease) -> Claim:
    await stores.tasks.release(lease, running_seconds=0, reason="drain")
    return await claim(stores.tasks, await stores.tasks.get("default", lease.task_id))


async def parked(stores: Stores, *calls: AwaitedCall, **fields: object) -> Task:
    lease = await running(stores.tasks, **fields)
    await stores.tasks.start_step(lease, CALL)
    bells = await stores.tasks.park(lease, calls or [AWAITED], running_seconds=1.5)
    assert bells == ()
    return await stores.tasks.get("default", lease.task_id)


async def test_a_mark_without_an_end_is_given_to_the_next_attempt(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    assert not (await stores.tasks.start_step(lease, CALL)).is_unknown
    again = await released(stores, lease)
    (start,) = again.starts
    assert start.started_at is not None
    assert start == CALL.model_copy(
        update={"attempt": 1, "started_at": start.started_at}
    )
    assert again.steps == ()
    assert await stores.tasks.steps("default", lease.task_id) == ()


async def test_a_recorded_step_replaces_its_mark(stores: Stores) -> None:
    lease = await running(stores.tasks)
    for start in (CALL, COMPLETION):
        await stores.tasks.start_step(lease, start)
    for key in ("completion:1", "tool:1:a", "z"):
        await stores.tasks.record_step(lease, Step(key=key, kind=StepKind.CUSTOM))
    again = await released(stores, lease)
    assert again.starts == ()
    assert [step.key for step in again.steps] == ["completion:1", "tool:1:a", "z"]
    assert not (await stores.tasks.start_step(again.lease, CALL)).is_unknown
    assert len((await released(stores, again.lease)).steps) == 3


async def test_a_completion_begun_by_two_attempts_is_maybe_paid_once(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks)
    assert not (await stores.tasks.start_step(lease, COMPLETION)).is_unknown
    assert not (await stores.tasks.start_step(lease, COMPLETION)).is_unknown
    again = await released(stores, lease)
    assert (await stores.tasks.start_step(again.lease, COMPLETION)).is_unknown
    assert not (await stores.tasks.start_step(again.lease, COMPLETION)).is_unknown
    assert (await stores.tasks.get("default", lease.task_id)).maybe_paid == 1


async def test_a_completion_that_follows_is_marked_along_with_the_step_before_it(
    stores: Stores,
) -> None:
    tasks, lease = stores.tasks, await running(stores.tasks)
    tool, other = (Step(key=f"tool:1:{n}", kind=StepKind.TOOL_CALL) for n in "ab")
    assert (await tasks.record_step(lease, other)).then is None
    recorded = await tasks.record_step(lease, tool, then=COMPLETION)
    assert recorded.then == Started(is_unknown=False, is_watched=False)
    assert not (await tasks.start_step(lease, COMPLETION)).is_unknown
    await tasks.watch("default", lease.task_id, seconds=60)
    again = await released(stores, lease)
    assert [start.key for start in again.starts] == [COMPLETION.key]
    third = Step(key="tool:1:c", kind=StepKind.TOOL_CALL)
    for is_unknown in (True, False):  # a repeat finds its own mark
        recorded = await tasks.record_step(again.lease, third, then=COMPLETION)
        assert recorded.then == Started(is_unknown=is_unknown, is_watched=True)
    assert (await tasks.get("default", lease.task_id)).maybe_paid == 1


async def test_a_repeated_record_marks_no_completion_that_has_ended(
    stores: Stores,
) -> None:
    tasks, lease = stores.tasks, await running(stores.tasks)
    tool = Step(key=CALL.key, kind=StepKind.TOOL_CALL)
    await tasks.record_step(lease, tool, then=COMPLETION)
    done = Step(key=COMPLETION.key, kind=StepKind.COMPLETION)
    await tasks.record_step(lease, done)
    await tasks.record_step(lease, tool, then=COMPLETION)
    again = await released(stores, lease)
    assert again.starts == ()
    assert [step.key for step in again.steps] == [CALL.key, COMPLETION.key]


async def test_a_start_tells_whether_somebody_follows(stores: Stores) -> None:
    tasks, lease = stores.tasks, await running(stores.tasks)
    other = await running(stores.tasks)
    assert not (await tasks.start_step(lease, COMPLETION)).is_watched
    await tasks.watch("default", lease.task_id, seconds=60)
    assert (await tasks.start_step(lease, COMPLETION)).is_watched
    assert (await tasks.start_step(lease, CALL)).is_watched
    assert not (await tasks.start_step(other, COMPLETION)).is_watched


async def test_a_dropped_mark_is_forgotten(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await stores.tasks.start_step(lease, COMPLETION)
    await stores.tasks.drop_start(lease, COMPLETION.key)
    await stores.tasks.drop_start(lease, "never")
    again = await released(stores, lease)
    assert again.starts == ()
    assert not (await stores.tasks.start_step(again.lease, COMPLETION)).is_unknown
    assert (await stores.tasks.get("default", lease.task_id)).maybe_paid == 0


async def test_a_parked_task_waits_with_its_call_shown(stores: Stores) -> None:
    task = await parked(stores)
    assert task.status is TaskStatus.WAITING
    assert task.awaiting == (AWAITED,)
    assert (task.running_seconds, task.unknown_outcomes) == (1.5, 1)
    assert task.pending_reason
    assert "pay (1:a)" in task.pending_reason
    assert await try_claim(stores.tasks, task) is RefusalReason.WAITING
    assert (await stores.tasks.sweep()).doorbells == ()
    assert (await event_types(stores.tasks, task))[-1] == "task.waiting"


async def test_a_decision_rings_the_task_and_reaches_the_next_attempt(
    stores: Stores,
) -> None:
    task = await parked(stores)
    answer = await stores.tasks.resolve("default", task.id, DONE)
    assert [bell.task_id for bell in answer.doorbells] == [task.id]
    assert answer.task.status is TaskStatus.PENDING
    assert answer.task.awaiting == ()
    again = await stores.tasks.resolve("default", task.id, DONE)
    assert again.task == answer.task
    claimed = await claim(stores.tasks, task)
    assert (undated(claimed.decisions), claimed.starts) == ([DONE], ())
    assert (await event_types(stores.tasks, task)).count("tool_call.resolved") == 1


async def test_a_decision_to_run_is_used_up_by_the_next_start(stores: Stores) -> None:
    task = await parked(stores)
    run = Decision(key=CALL.key, action=Action.RUN)
    await stores.tasks.resolve("default", task.id, run)
    lease = (await claim(stores.tasks, task)).lease
    assert not (await stores.tasks.start_step(lease, CALL)).is_unknown
    again = await released(stores, lease)
    assert again.decisions == ()
    assert [start.key for start in again.starts] == [CALL.key]


async def test_a_task_is_rung_after_its_last_decision(stores: Stores) -> None:
    other = AwaitedCall(call_id="1:b", tool="pay")
    task = await parked(stores, other, AWAITED)
    assert [call.call_id for call in task.awaiting] == ["1:a", "1:b"]
    first = await stores.tasks.resolve("default", task.id, DONE)
    assert (first.doorbells, first.task.awaiting) == ((), (other,))
    assert first.task.status is TaskStatus.WAITING
    fail = Decision(key="tool:1:b", action=Action.FAIL, note="no receipt")
    assert (await stores.tasks.resolve("default", task.id, fail)).doorbells
    claimed = await claim(stores.tasks, task)
    assert sorted(each.key for each in claimed.decisions) == ["tool:1:a", "tool:1:b"]


async def test_a_decision_that_nobody_awaits_is_refused(stores: Stores) -> None:
    task = await parked(stores)
    wrong = DONE.model_copy(update={"key": "tool:9:z"})
    with pytest.raises(InvalidInput, match="1:a"):
        await stores.tasks.resolve("default", task.id, wrong)
    with pytest.raises(TaskNotFound):
        await stores.tasks.resolve("acme", task.id, DONE)
    await stores.tasks.cancel("default", task.id)
    with pytest.raises(InvalidInput, match="cancelled"):
        await stores.tasks.resolve("default", task.id, DONE)


async def test_a_second_decision_does_not_overrule_the_first(stores: Stores) -> None:
    task = await parked(stores)
    await stores.tasks.resolve("default", task.id, DONE)
    other = Decision(key=CALL.key, action=Action.RUN)
    with pytest.raises(InvalidInput):
        await stores.tasks.resolve("default", task.id, other)


async def test_a_waiting_task_is_ended_by_its_deadline_alone(stores: Stores) -> None:
    task = await parked(stores, deadline_seconds=0.1)
    ended = await sweep_until(stores.tasks, task, TaskStatus.FAILED)
    assert ended.failure is not None
    assert ended.failure.code == "expired"


async def test_a_deadline_holds_when_the_time_of_one_decision_is_over(
    stores: Stores,
) -> None:
    asked = AWAITED.model_copy(update={"call_id": "1:b", "timeout_seconds": 0.05})
    task = await parked(stores, AWAITED, asked, deadline_seconds=0.6)
    ended = await sweep_until(stores.tasks, task, TaskStatus.FAILED)
    assert ended.failure is not None
    assert ended.failure.code == "expired"


async def test_a_stale_run_marks_and_parks_nothing(stores: Stores) -> None:
    lease = await running(stores.tasks)
    await released(stores, lease)
    with pytest.raises(LeaseLost):
        await stores.tasks.start_step(lease, CALL)
    with pytest.raises(LeaseLost):
        await stores.tasks.drop_start(lease, CALL.key)
    with pytest.raises(LeaseLost):
        await stores.tasks.park(lease, [AWAITED], running_seconds=0)


async def test_parking_a_task_whose_cancel_was_asked_for_cancels_it(
    stores: Stores,
) -> None:
    lease = await running(stores.tasks, conversation_id="c")
    waiting = await submitted(stores.tasks, conversation_id="c")
    await stores.tasks.cancel("default", lease.task_id)
    (bell,) = await stores.tasks.park(lease, [AWAITED], running_seconds=0)
    assert bell.task_id == waiting.id
    task = await stores.tasks.get("default", lease.task_id)
    assert task.status is TaskStatus.CANCELLED


async def test_a_resolved_run_finishes_like_any_other(stores: Stores) -> None:
    task = await parked(stores)
    await stores.tasks.resolve("default", task.id, DONE)
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.record_step(lease, Step(key=CALL.key, kind=StepKind.TOOL_CALL))
    again = await released(stores, lease)
    assert again.decisions == ()
    await stores.tasks.finish(again.lease, completed(again.lease), running_seconds=1)
    ended = await stores.tasks.get("default", task.id)
    assert (ended.agent_name, ended.status) == (AGENT, TaskStatus.COMPLETED)


async def test_what_nobody_decides_on_in_time_is_refused_and_the_task_goes_on(
    stores: Stores,
) -> None:
    asked = AwaitedCall(
        call_id="approval:1:b",
        reason="approval",
        tool="pay",
        arguments={"list": []},
        timeout_seconds=0.1,
    )
    task = await parked(stores, AWAITED, asked)
    by_id = {call.call_id: call for call in task.awaiting}
    assert by_id["1:a"].expires_at is None
    assert by_id["approval:1:b"].expires_at is not None
    assert by_id["approval:1:b"].arguments == {"list": []}

    async def only_the_other_is_left() -> bool:
        await stores.tasks.sweep()
        task_now = await stores.tasks.get("default", task.id)
        return [call.call_id for call in task_now.awaiting] == ["1:a"]

    await until(only_the_other_is_left)
    task_now = await stores.tasks.get("default", task.id)
    assert task_now.status is TaskStatus.WAITING
    late = Decision(key="tool:approval:1:b", action=Action.RUN)
    with pytest.raises(InvalidInput, match="it awaits: 1:a"):
        await stores.tasks.resolve("default", task.id, late)
    await stores.tasks.resolve("default", task.id, DONE)
    claimed = await claim(stores.tasks, task)
    assert claimed.read_at is not None
    found = {decision.key: decision for decision in claimed.decisions}
    refusal = found["tool:approval:1:b"]
    assert (refusal.action, refusal.note) == (Action.REFUSE, "nobody decided in time")
    assert refusal.decided_at is not None
    assert refusal.decided_at <= claimed.read_at
    assert found[DONE.key].output == DONE.output


async def test_the_last_call_that_expires_rings_the_task_unless_it_was_decided_on(
    stores: Stores,
) -> None:
    asked = AwaitedCall(
        call_id="approval:1:b", reason="approval", tool="pay", timeout_seconds=0.05
    )
    task = await parked(stores, asked)
    patient = asked.model_copy(update={"timeout_seconds": 600})
    decided = await parked(stores, patient)
    allowed = Decision(key="tool:approval:1:b", action=Action.RUN)
    await stores.tasks.resolve("default", decided.id, allowed)
    await sweep_until(stores.tasks, task, TaskStatus.PENDING)
    assert "tool_call.resolved" in await event_types(stores.tasks, task)
    assert (await claim(stores.tasks, task)).decisions[0].action is Action.REFUSE
    assert (await claim(stores.tasks, decided)).decisions[0].action is Action.RUN


async def test_the_call_that_expires_first_is_looked_at_whatever_its_place(
    stores: Stores,
) -> None:
    late, soon, later = [
        AwaitedCall(call_id=each, tool="pay", timeout_seconds=seconds)
        for each, seconds in (("a", 600), ("b", 0.02), ("c", 900))
    ]
    task = await parked(stores, late, soon, later)

    async def left() -> list[str]:
        await stores.tasks.sweep()
        awaiting = (await stores.tasks.get("default", task.id)).awaiting
        return [call.call_id for call in awaiting]

    async def is_over() -> bool:
        return await left() == ["a", "c"]

    await until(is_over)


async def test_a_decision_after_its_time_counts_no_more(stores: Stores) -> None:
    asked = AwaitedCall(
        call_id="approval:1:b", reason="approval", tool="pay", timeout_seconds=0.02
    )
    task = await parked(stores, asked)
    (expires_at,) = [call.expires_at for call in task.awaiting]

    async def the_time_is_over() -> bool:
        return expires_at is not None and utc_now() > expires_at

    await until(the_time_is_over)
    late = Decision(key="tool:approval:1:b", action=Action.RUN)
    with pytest.raises(InvalidInput, match="is over"):
        await stores.tasks.resolve("default", task.id, late)
    await sweep_until(stores.tasks, task, TaskStatus.PENDING)
    assert (await claim(stores.tasks, task)).decisions[0].action is Action.REFUSE


async def test_a_task_that_has_ended_awaits_nothing(stores: Stores) -> None:
    task = await parked(stores)
    await stores.tasks.cancel("default", task.id)
    ended = await stores.tasks.get("default", task.id)
    assert (ended.status, ended.awaiting) == (TaskStatus.CANCELLED, ())
    with pytest.raises(InvalidInput, match="it awaits: none"):
        await stores.tasks.resolve("default", task.id, DONE)


async def test_a_decision_whose_answer_was_lost_may_be_sent_again(
    stores: Stores,
) -> None:
    """Though its run was quick: it was rung for within the decision's own script."""
    task = await parked(stores)
    run = Decision(key=CALL.key, action=Action.RUN)
    await stores.tasks.resolve("default", task.id, run)
    lease = (await claim(stores.tasks, task)).lease
    await stores.tasks.start_step(lease, CALL)
    again = await stores.tasks.resolve("default", task.id, run)
    assert (again.task.status, again.doorbells) == (TaskStatus.RUNNING, ())
    with pytest.raises(InvalidInput):
        await stores.tasks.resolve("default", task.id, DONE)
    await stores.tasks.park(lease, [AWAITED], running_seconds=0)
    await stores.tasks.cancel("default", task.id)
    with pytest.raises(InvalidInput):  # it was asked for once more
        await stores.tasks.resolve("default", task.id, run)
