"""`/tasks`: submit, read, list, cancel, retry, wait, decide, and follow live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from conversations.json_value import dumps
from conversations.whole_number import whole_number
from orchestrator.events import TaskEvent
from orchestrator.http.admission import admit
from orchestrator.http.answer_forms import check_output_schema
from orchestrator.http.auth import (
    Approver,
    Caller,
    Canceller,
    Reader,
    Submitter,
    check_scope,
)
from orchestrator.http.dependencies import Celeriac, limits_of, problems
from orchestrator.http.idempotency import IdempotencyKey
from orchestrator.http.problem import Problem
from orchestrator.http.roles import check_input
from orchestrator.http.stream import KEEPALIVE, EventStream, follow
from orchestrator.http.submitter import check_may_decide, stamped
from orchestrator.http.task_bodies import (
    DecisionBody,
    EventList,
    ListQuery,
    StepList,
    SubmitBody,
    TaskBody,
    TaskList,
)
from orchestrator.http.waiting import wait_for_end
from orchestrator.http_settings import Scope
from orchestrator.lookup import SEQUENCE_BOUND
from orchestrator.said import SUBMITTED_BY
from orchestrator.store import TaskFilter
from orchestrator.task import TaskStatus

router = APIRouter(prefix="/tasks", tags=["tasks"])

MAX_WAIT_SECONDS = 60.0
"""One long poll; ask again for more."""
ENDING = ("interrupt", "rollback")
"""What of `when_busy` ends the unfinished turns before it."""

TaskId = Annotated[str, Path(description="The task's id.", max_length=256)]


async def _seen(
    after: Annotated[
        int | None,
        Query(
            ge=-1, lt=SEQUENCE_BOUND, description="The last sequence seen; -1: none."
        ),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="The last event seen, as `after`.")
    ] = None,
) -> int:
    asked = -1 if after is None else after
    if last_event_id is None:
        return asked
    sequence = whole_number(last_event_id.strip())
    if sequence is not None and sequence < SEQUENCE_BOUND:
        # A browser that comes back repeats its URL, and with it an `after` of long ago.
        return max(asked, sequence)
    raise Problem(
        400,
        "invalid_last_event_id",
        "Last-Event-ID must be the id of an event of this stream",
        field="Last-Event-ID",
    )


Seen = Annotated[int, Depends(_seen)]


@router.post("", status_code=202, responses=problems(400, 404, 409, 429))
async def submit_task(
    body: SubmitBody,
    request: Request,
    caller: Submitter,
    celeriac: Celeriac,
    key: IdempotencyKey,
    response: Response,
) -> TaskBody:
    """Accept a task: it will end exactly once, whatever happens to this service.

    A submit that equals an earlier one returns that task (`200`). One that is to
    interrupt or roll back the turns before it also needs the scope `cancel`.
    """
    if body.when_busy in ENDING:
        check_scope(caller, Scope.CANCEL)
    await admit(request, celeriac, caller)
    fields = body.fields()
    fields["metadata"] = stamped(fields.get("metadata"), caller)
    check_input(fields.get("input", {}), request)
    await check_output_schema(celeriac, body.agent, body.parameters)
    handle = await celeriac.submit(
        fields.pop("agent"),
        fields.pop("input", {}),
        **fields,
        idempotency_key=key,
        tenant=caller.tenant,
    )
    response.headers["Location"] = f"/tasks/{handle.id}"
    if not handle.created:
        response.status_code = 200
    task = handle.accepted
    own = task.metadata.get(SUBMITTED_BY) == caller.name
    return TaskBody.told(task, caller, own=own, warning=handle.warning)


@router.get("", responses=problems())
async def list_tasks(
    caller: Reader,
    celeriac: Celeriac,
    query: Annotated[ListQuery, Query()],
) -> TaskList:
    """List tasks, newest first."""
    wanted = TaskFilter(
        status=query.status,
        agent_name=query.agent,
        conversation_id=query.conversation_id,
        tag=query.tag,
        created_after=query.created_after,
        created_before=query.created_before,
    )
    page = await celeriac.list(
        wanted, limit=query.limit, cursor=query.cursor, tenant=caller.tenant
    )
    return TaskList(
        tasks=[TaskBody.of(task) for task in page.tasks], next_cursor=page.next_cursor
    )


@router.get("/{task_id}", responses=problems(404))
async def get_task(task_id: TaskId, caller: Reader, celeriac: Celeriac) -> TaskBody:
    """Return a task as it stands."""
    return TaskBody.of(await celeriac.get(task_id, tenant=caller.tenant))


@router.get("/{task_id}/steps", responses=problems(404))
async def list_steps(task_id: TaskId, caller: Reader, celeriac: Celeriac) -> StepList:
    """Return what the task has done so far."""
    return StepList(steps=list(await celeriac.steps(task_id, tenant=caller.tenant)))


@router.post("/{task_id}/cancel", responses=problems(404, 409))
async def cancel_task(
    task_id: TaskId, caller: Canceller, celeriac: Celeriac
) -> TaskBody:
    """Ask for the end of a task; again is harmless, one that ended otherwise is 409."""
    task = await celeriac.cancel(task_id, tenant=caller.tenant)
    if task.status.is_terminal and task.status is not TaskStatus.CANCELLED:
        raise Problem(
            409,
            "invalid_transition",
            f"task {task.id} is {task.status.value} and cannot become cancelled",
            task_status=task.status.value,
        )
    return TaskBody.told(task, caller)


@router.post("/{task_id}/retry", status_code=202, responses=problems(404, 409, 429))
async def retry_task(
    task_id: TaskId,
    request: Request,
    caller: Submitter,
    celeriac: Celeriac,
    response: Response,
) -> TaskBody:
    """Submit an ended task's request again, as a new task; once for each task."""
    await admit(request, celeriac, caller)
    handle = await celeriac.retry(
        task_id, tenant=caller.tenant, metadata=stamped(None, caller)
    )
    response.headers["Location"] = f"/tasks/{handle.id}"
    return TaskBody.told(handle.accepted, caller, warning=handle.warning)


@router.get("/{task_id}/wait", responses=problems(404))
async def wait_for_task(
    task_id: TaskId,
    request: Request,
    caller: Reader,
    celeriac: Celeriac,
    timeout: Annotated[
        float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)
    ] = 30,
) -> TaskBody:
    """Wait for a task's end, at most `timeout` seconds; return it as it then stands."""
    seconds = min(timeout, limits_of(request).max_wait)
    task = await wait_for_end(
        celeriac, task_id, tenant=caller.tenant, seconds=seconds, request=request
    )
    return TaskBody.of(task)


@router.post("/{task_id}/resolve", responses=problems(404, 409))
async def resolve_call(
    task_id: TaskId, body: DecisionBody, caller: Approver, celeriac: Celeriac
) -> TaskBody:
    """Decide on a call that the task waits for."""
    task = await celeriac.get(task_id, tenant=caller.tenant)
    steps = await celeriac.steps(task_id, tenant=caller.tenant)
    check_may_decide(task, steps, caller)
    task = await celeriac.resolve(
        task_id,
        body.call_id,
        body.decision,
        output=body.output,
        note=body.note,
        tenant=caller.tenant,
    )
    return TaskBody.told(task, caller)


@router.get(
    "/{task_id}/events",
    responses={
        **problems(400, 404),
        200: {
            "description": "The events; with `Accept: text/event-stream` live.",
            "model": EventList,
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 0\nevent: task.created\ndata: {"sequence":0}\n\n',
                }
            },
        },
    },
    response_model=None,
)
async def follow_task(
    task_id: TaskId,
    request: Request,
    caller: Reader,
    celeriac: Celeriac,
    seen: Seen,
) -> Response:
    """Return the events beyond `after`, as a list or as a live stream.

    A stream that was cut goes on anywhere, with `Last-Event-ID` or `after`.
    """
    await celeriac.get(task_id, tenant=caller.tenant)
    if "text/event-stream" not in request.headers.get("accept", ""):
        events = await celeriac.read_events(task_id, after=seen, tenant=caller.tenant)
        body = EventList(events=list(events)).model_dump_json()
        return Response(body, media_type="application/json")
    pieces = _pieces(celeriac, task_id, seen, caller)
    return EventStream(pieces, send_timeout=limits_of(request).send_timeout)


async def _pieces(
    celeriac: Celeriac, task_id: str, after: int, caller: Caller
) -> AsyncIterator[bytes]:
    async for event in follow(celeriac, task_id, after=after, tenant=caller.tenant):
        yield KEEPALIVE if event is None else _piece(event)


def _piece(event: TaskEvent) -> bytes:
    data = dumps(event.model_dump(mode="json"))
    return f"id: {event.sequence}\nevent: {event.type}\ndata: {data}\n\n".encode()
