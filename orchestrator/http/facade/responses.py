"""`/v1/responses`: create, retrieve, stream, cancel, delete, input items."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from conversations.conversation import is_hidden_id
from conversations.errors import ConversationNotFound
from orchestrator.errors import InvalidInput, TaskNotFound
from orchestrator.events import TaskEvent
from orchestrator.http.admission import admit
from orchestrator.http.auth import (
    Caller,
    Canceller,
    Reader,
    Submitter,
    check_scope,
)
from orchestrator.http.dependencies import (
    Celeriac,
    Responses,
    limits_of,
    openai_problems,
)
from orchestrator.http.facade.formed_items import FormedItems
from orchestrator.http.facade.given import (
    check_format,
    check_no_nuls,
    named_as_sent,
)
from orchestrator.http.facade.history import history_for, taken_by_a_task
from orchestrator.http.facade.ids import task_id
from orchestrator.http.facade.item_references import messages_with_referred
from orchestrator.http.facade.paging import ItemPage, Paging, page_of
from orchestrator.http.facade.response_events import (
    DONE,
    TERMINAL,
    facade_event,
    wire,
)
from orchestrator.http.facade.response_object import (
    echo_of,
    input_items,
    is_background,
    is_formed,
    outline,
    response_object,
)
from orchestrator.http.facade.response_request import (
    ECHO,
    RESPONSES,
    ResponseRequest,
    input_of,
)
from orchestrator.http.facade.response_schema import DeletedResponse, ResponseBody
from orchestrator.http.facade.shapes import Shape
from orchestrator.http.facade.whole_output import with_whole_output
from orchestrator.http.facade.whole_texts import with_whole_texts
from orchestrator.http.idempotency import IdempotencyKey
from orchestrator.http.problem import Problem
from orchestrator.http.roles import check_roles
from orchestrator.http.stream import KEEPALIVE, NOTHING, EventStream, follow
from orchestrator.http.waiting import wait_for_answer
from orchestrator.http_settings import Scope
from orchestrator.lookup import SEQUENCE_BOUND
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.said import SUBMITTED_BY
from orchestrator.store import TaskFilter
from orchestrator.task import Task

router = APIRouter(prefix="/v1/responses", tags=["openai"])

ResponseId = Annotated[str, Path(description="The response's id.", max_length=256)]
STREAM_CONTENT: dict[str, Any] = {
    "text/event-stream": {"schema": {"type": "string"}},
}
ANSWER: Responses = {
    200: {
        "description": "The response, or its stream.",
        "model": ResponseBody,
        "content": STREAM_CONTENT,
    }
}


@router.post(
    "", responses={**openai_problems(404, 409, 429), **ANSWER}, response_model=None
)
async def create_response(
    body: ResponseRequest,
    request: Request,
    caller: Submitter,
    celeriac: Celeriac,
    key: IdempotencyKey,
) -> Response:
    """Ask an agent. The task is stored before the first byte of the answer is sent."""
    task = await submit_response(celeriac, body, request, caller, key=key)
    if body.stream:
        return _stream(celeriac, task, request, after=-1)
    if body.background:
        return JSONResponse(response_object(task, ()))
    seconds = limits_of(request).max_wait
    task = await wait_for_answer(
        celeriac, task, seconds=seconds, request=request, key=key
    )
    return JSONResponse(await _object(celeriac, task))


async def submit_response(
    celeriac: AsyncOrchestrator,
    body: ResponseRequest,
    request: Request,
    caller: Caller,
    *,
    key: str | None,
) -> Task:
    """Accept the task of a response.

    Raises:
        Problem: a field cannot be taken; nothing is stored.
        OrchestratorError: as `submit`.
    """
    check_no_nuls(body, besides="input")
    body.check()
    most_bytes = limits_of(request).max_body_bytes
    opening = await messages_with_referred(
        celeriac, body.input, caller, most_bytes=most_bytes
    )
    body.check_opening(opening)
    check_roles(opening, request)
    await admit(request, celeriac, caller)
    parameters = body.parameters()
    await check_format(parameters, param=RESPONSES.schema)
    history = await history_for(celeriac, body, caller, opening=opening)
    async with taken_by_a_task(celeriac, history, caller) as tasks:
        with named_as_sent(RESPONSES):
            handle = await celeriac.submit(
                body.model,
                input_of(opening),
                parameters={**parameters, **({"stream": True} if body.stream else {})},
                conversation_id=history.conversation_id,
                metadata={
                    **(body.metadata or {}),
                    ECHO: body.echo(),
                    SUBMITTED_BY: caller.name,
                },
                idempotency_key=key,
                tenant=caller.tenant,
            )
        tasks.append(handle.accepted)
    return handle.accepted


@router.get(
    "/{response_id}", responses={**openai_problems(404), **ANSWER}, response_model=None
)
async def get_response(
    response_id: ResponseId,
    request: Request,
    caller: Reader,
    celeriac: Celeriac,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=-1, lt=SEQUENCE_BOUND)] = None,
) -> Response:
    """Return a response as it stands, or its events from any place, on any replica."""
    task = await _find(celeriac, response_id, caller)
    if stream:
        after = -1 if starting_after is None else starting_after
        return _stream(celeriac, task, request, after=after)
    return JSONResponse(await _object(celeriac, task))


@router.post("/{response_id}/cancel", responses=openai_problems(404))
async def cancel_response(
    response_id: ResponseId, caller: Canceller, celeriac: Celeriac
) -> ResponseBody:
    """Ask for the end of a background response; harmless again or after its end."""
    task = await _find(celeriac, response_id, caller)
    if not is_background(task):
        raise Problem(400, "invalid_request", "Cannot cancel a synchronous response.")
    task = await celeriac.cancel(task.id, tenant=caller.tenant)
    may_read = caller.may(Scope.READ)
    shape = await _object(celeriac, task) if may_read else outline(task)
    return ResponseBody.model_validate(shape)


@router.delete("/{response_id}", responses=openai_problems(404, 409))
async def delete_response(
    response_id: ResponseId, caller: Submitter, celeriac: Celeriac
) -> DeletedResponse:
    """Delete a response; one that has not ended is cancelled, which needs `cancel`."""
    task = await _find(celeriac, response_id, caller)
    if not task.status.is_terminal:
        check_scope(caller, Scope.CANCEL)
    await celeriac.delete(task.id, tenant=caller.tenant)
    conversation_id = task.conversation_id
    if conversation_id is not None and is_hidden_id(conversation_id):
        await _delete_history(celeriac, conversation_id, task)
    return DeletedResponse(id=response_id)


async def _delete_history(
    celeriac: AsyncOrchestrator, conversation_id: str, task: Task
) -> None:
    """Delete a hidden history that is no other response's, nor becomes it meanwhile."""
    talks, tenant = celeriac.conversations, task.tenant
    try:
        ends_at = (await talks.get(conversation_id, tenant=tenant)).last_seq
    except ConversationNotFound:
        return
    others = TaskFilter(conversation_id=conversation_id)
    if not (await celeriac.list(others, limit=1, tenant=tenant)).tasks:
        await talks.delete(conversation_id, at=ends_at, tenant=tenant)


@router.get("/{response_id}/input_items", responses=openai_problems(404))
async def list_input_items(
    response_id: ResponseId,
    caller: Reader,
    celeriac: Celeriac,
    paging: Annotated[Paging, Query()],
) -> ItemPage:
    """Return what a response was asked with."""
    task = await _find(celeriac, response_id, caller)
    return page_of(input_items(task), paging)


async def _find(celeriac: AsyncOrchestrator, response_id: str, caller: Caller) -> Task:
    try:
        task = await celeriac.get(task_id(response_id), tenant=caller.tenant)
    except (TaskNotFound, InvalidInput):
        raise _not_found(response_id) from None
    if echo_of(task).get("store") is False and task.status.is_terminal:
        raise _not_found(response_id)
    return task


def _not_found(response_id: str) -> Problem:
    return Problem(
        404, "not_found", f"Response with id '{response_id[:80]}' not found."
    )


async def _object(celeriac: AsyncOrchestrator, task: Task) -> Shape:
    steps = await celeriac.steps(task.id, tenant=task.tenant)
    return response_object(task, steps)


def _stream(
    celeriac: AsyncOrchestrator, task: Task, request: Request, *, after: int
) -> EventStream:
    return EventStream(
        _pieces(celeriac, task, after), send_timeout=limits_of(request).send_timeout
    )


async def _pieces(
    celeriac: AsyncOrchestrator, task: Task, after: int
) -> AsyncIterator[bytes]:
    events = follow(celeriac, task.id, after=after, tenant=task.tenant)
    formed = FormedItems() if is_formed(task) else None
    async for event in with_whole_texts(events):
        if event is None:
            yield KEEPALIVE
            continue
        taken = formed.take(event) if formed else [event]
        for each in taken:
            yield await _wired(celeriac, task, each)
        if not taken:
            yield NOTHING
    yield DONE


async def _wired(celeriac: AsyncOrchestrator, task: Task, event: TaskEvent) -> bytes:
    if event.type.is_end:
        ended = await celeriac.get(task.id, tenant=task.tenant)
        shape = await _object(celeriac, ended)
        kind = TERMINAL[shape["status"]]
        return wire(kind, event.sequence, {"response": shape})
    whole = await with_whole_output(celeriac, task, event)
    mapped = facade_event(whole, task)
    return wire(mapped[0], event.sequence, mapped[1]) if mapped else NOTHING
