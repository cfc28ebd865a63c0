"""Visits to the pages: keys, a login, and tasks to be seen there."""

from __future__ import annotations

from orchestrator.http.auth import KEY_COOKIE
from orchestrator.journal import Decision, Step, StepKind
from orchestrator.store import Ending
from orchestrator.task import AwaitedCall, Task, TaskResult, TaskStatus
from tests.unit.orchestrator.http.serving import Served, key_settings

KEYS = key_settings(
    reader=("acme", ("read",)),
    approver=("acme", ("read", "approve", "cancel", "submit")),
    rival=("rival", ("admin",)),
    blind=("acme", ("submit",)),
)


def logged_in(key: str) -> dict[str, str]:
    return {"Cookie": f"{KEY_COOKIE}={key}", "Sec-Fetch-Site": "same-origin"}


async def wait_for_decision(served: Served, **fields: object) -> Task:
    store = served.parts.store
    task = Task(tenant="acme", agent_name="researcher", **fields)
    await store.create([task])
    claim = await store.claim(
        "acme", task.id, worker="w", serves=["researcher"], lease_seconds=60
    )
    call = AwaitedCall(call_id="1:a", tool="refund")
    await store.park(claim.lease, [call], running_seconds=0)
    return task


async def decisions_on(served: Served, task: Task) -> tuple[Decision, ...]:
    """What the journal gives the worker that takes the task up again."""
    claim = await served.parts.store.claim(
        task.tenant, task.id, worker="w", serves=["researcher"], lease_seconds=60
    )
    return claim.decisions


async def run(served: Served, text: str, *, tenant: str = "default") -> Task:
    """A task with hostile words wherever words can stand."""
    store = served.parts.store
    task = Task(
        tenant=tenant,
        agent_name="researcher",
        input={"prompt": text},
        tags=(text[:200],),
        metadata={text[:50]: text},
    )
    await store.create([task])
    claim = await store.claim(
        tenant, task.id, worker=text[:200], serves=["researcher"], lease_seconds=60
    )
    calls = [{"id": "a", "name": text[:200], "arguments": {text[:50]: text}}]
    message = {"content": text, "reasoning": text, "tool_calls": calls}
    steps = (
        Step(
            key="completion:1",
            kind=StepKind.COMPLETION,
            name=text[:200],
            outcome={"message": message},
        ),
        Step(
            key="tool:1:a",
            kind=StepKind.TOOL_CALL,
            name=text[:200],
            error=text[:60],
            outcome={"content": text},
        ),
    )
    for step in steps:
        await store.record_step(claim.lease, step)
    result = TaskResult(task_id=task.id, content=text, output={"answer": text})
    ending = Ending(status=TaskStatus.COMPLETED, result=result)
    await store.finish(claim.lease, ending, running_seconds=1)
    return task
