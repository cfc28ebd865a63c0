"""What a waiting task asks a person, on its page and over HTTP."""

from __future__ import annotations

from typing import get_args

import pytest

from orchestrator.events import EventType, NewEvent
from orchestrator.journal import MAY_BE_DECIDED, Action
from orchestrator.store import Claim
from orchestrator.task import AwaitedCall, Task
from tests.unit.orchestrator.http.page_visits import decisions_on
from tests.unit.orchestrator.http.serving import Served, serving

ASKED = {
    "approval": (
        AwaitedCall(
            call_id="approval:1:a:f00",
            reason="approval",
            tool="refund",
            arguments={"order": "<b>A1</b>"},
            timeout_seconds=60,
        ),
        ("run", "refuse", "done", "fail"),
        "be called?",
    ),
    "budget_spent": (
        AwaitedCall(call_id="budget:1", reason="budget_spent", tool="budget"),
        ("run", "done", "fail"),
        "spend more?",
    ),
    "unknown_outcome": (
        AwaitedCall(call_id="1:a", tool="refund"),
        ("done", "run", "fail"),
        "take effect?",
    ),
}


BEGUN = NewEvent(
    type=EventType.TOOL_CALL_STARTED,
    data={"call_id": "a", "item_id": "call-1:a", "name": "refund", "arguments": {}},
)


async def running(served: Served, *events: NewEvent) -> Claim:
    store, task = served.parts.store, Task(agent_name="researcher")
    await store.create([task])
    claim = await store.claim(
        "default", task.id, worker="w", serves=["researcher"], lease_seconds=60
    )
    await store.append_events(claim.lease, events)
    return claim


async def waiting(served: Served, call: AwaitedCall, *events: NewEvent) -> Task:
    claim = await running(served, *events)
    await served.parts.store.park(claim.lease, [call], running_seconds=0)
    return claim.task


@pytest.mark.parametrize("reason", ASKED)
async def test_a_page_asks_what_is_to_be_decided(reason: str) -> None:
    call, decisions, question = ASKED[reason]
    async with serving() as served:
        task = await waiting(served, call)
        page = (await served.client.get(f"/ui/tasks/{task.id}")).text
        assert question in page
        assert "<b>A1" not in page
        for decision in ("run", "refuse", "done", "fail"):
            assert (f'value="{decision}"' in page) is (decision in decisions)
        assert ('name="output"' in page) is (reason != "budget_spent")
        form = {"call_id": call.call_id, "decision": decisions[0], "note": "so be it"}
        answer = await served.client.post(
            f"/ui/tasks/{task.id}/resolve",
            data=form,
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status_code == 303
        assert (await served.orchestrator.get(task.id)).awaiting == ()


async def test_the_page_answers_in_the_place_of_a_call_that_was_not_allowed() -> None:
    call = ASKED["approval"][0]
    async with serving() as served:
        task = await waiting(served, call)
        form = {"call_id": call.call_id, "decision": "done", "output": "by hand"}
        answer = await served.client.post(
            f"/ui/tasks/{task.id}/resolve",
            data=form,
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status_code == 303
        [decision] = await decisions_on(served, task)
        assert (decision.action, decision.output) == (Action.DONE, "by hand")


def test_for_each_reason_to_ask_there_is_something_to_decide() -> None:
    reasons = get_args(AwaitedCall.model_fields["reason"].annotation)
    assert set(MAY_BE_DECIDED) == set(reasons)


async def test_a_call_that_needs_approval_is_refused_over_http() -> None:
    call = ASKED["approval"][0]
    async with serving() as served:
        task = await waiting(served, call)
        path = f"/tasks/{task.id}"
        [shown] = (await served.client.get(path)).json()["awaiting"]
        assert (shown["reason"], shown["arguments"]) == ("approval", call.arguments)
        assert shown["expires_at"]
        wrong = {"call_id": "approval:1:a:other", "decision": "run"}
        answer = await served.client.post(f"{path}/resolve", json=wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, "call_id")
        right = {"call_id": call.call_id, "decision": "refuse", "note": "no"}
        answer = await served.client.post(f"{path}/resolve", json=right)
        assert (answer.status_code, answer.json()["status"]) == (200, "pending")


async def test_a_task_that_was_cancelled_asks_nothing_more() -> None:
    call = ASKED["approval"][0]
    async with serving() as served:
        task = await waiting(served, call)
        answer = await served.client.post(f"/tasks/{task.id}/cancel")
        assert (answer.json()["status"], answer.json()["awaiting"]) == ("cancelled", [])
        page = (await served.client.get(f"/ui/tasks/{task.id}")).text
        assert ASKED["approval"][2] not in page


async def test_a_call_that_waits_for_a_person_is_not_shown_as_under_way() -> None:
    async with serving() as served:
        task = await waiting(served, ASKED["approval"][0], BEGUN)
        page = (await served.client.get(f"/ui/tasks/{task.id}")).text
        assert "waits for a decision" in page
        assert "under way" not in page


async def test_a_call_of_a_running_task_is_shown_as_under_way() -> None:
    async with serving() as served:
        task = (await running(served, BEGUN)).task
        page = (await served.client.get(f"/ui/tasks/{task.id}")).text
        assert "under way" in page
        assert "waits for a decision" not in page
