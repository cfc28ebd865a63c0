"""The pages: tasks, one task, conversations, agents and workers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field, JsonValue

from conversations.conversation import is_hidden_id
from conversations.errors import ConversationNotFound
from conversations.json_value import Identifier
from orchestrator.errors import InvalidInput
from orchestrator.events import EventType, TaskEvent
from orchestrator.http.admission import admit
from orchestrator.http.auth import Approver, Canceller, Reader, Submitter
from orchestrator.http.dependencies import Celeriac
from orchestrator.http.page.answering import PageRoute, form_of, to
from orchestrator.http.page.rendering import render
from orchestrator.http.page.timeline import make_timeline
from orchestrator.http.page.views import (
    CHOICES,
    actions_of,
    counts_of,
    line_of,
    view_of,
)
from orchestrator.http.status import operates
from orchestrator.http.submitter import check_may_decide, stamped
from orchestrator.journal import Action
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.store import TaskFilter
from orchestrator.task import Task, TaskStatus

router = APIRouter(route_class=PageRoute, include_in_schema=False)

TASKS_SHOWN: Final = 50
MESSAGES_SHOWN: Final = 100
MOST_EVENTS: Final = 20_000
"""Of one task, for its timeline; what comes later is told by its steps."""

_EVENT_TYPES: Final = " ".join(kind.value for kind in EventType)

TaskId = Annotated[str, Path(max_length=256)]
Cursor = Annotated[str, Query(max_length=256)]


class TasksQuery(BaseModel):
    """Which tasks are shown; an empty value shows all."""

    status: TaskStatus | Literal[""] = ""
    agent: Identifier | Literal[""] = ""
    tag: str = Field(default="", max_length=256)
    conversation: Identifier | Literal[""] = ""
    cursor: str = Field(default="", max_length=256)
    part: bool = False

    def url(self, **changes: str) -> str:
        """The address of the same list, changed."""
        given = self.model_dump(exclude={"part"}) | changes
        return f"/?{urlencode({k: v for k, v in given.items() if v})}"


@router.get("/")
async def tasks_page(
    request: Request,
    caller: Reader,
    celeriac: Celeriac,
    query: Annotated[TasksQuery, Query()],
) -> Response:
    """Show tasks, newest first."""
    found = await celeriac.list(
        TaskFilter(
            status=query.status or None,
            agent_name=query.agent or None,
            tag=query.tag or None,
            conversation_id=query.conversation or None,
        ),
        limit=TASKS_SHOWN,
        cursor=query.cursor or None,
        tenant=caller.tenant,
    )
    figures = await celeriac.figures(tenant=caller.tenant)
    now = datetime.now(UTC)
    return render(
        request,
        "tasks_part.html" if query.part else "tasks.html",
        caller=caller,
        tasks=[line_of(task, now=now) for task in found.tasks],
        counts=list(counts_of(figures.counters)),
        filter=query,
        statuses=[each.value for each in TaskStatus],
        agents=[info.name for info in await celeriac.agents()],
        refresh_url=query.url(part="true"),
        next_url=query.url(cursor=found.next_cursor) if found.next_cursor else None,
    )


@router.get("/ui/tasks/{task_id}")
async def task_page(
    task_id: TaskId,
    request: Request,
    caller: Reader,
    celeriac: Celeriac,
    *,
    part: bool = False,
) -> Response:
    """Show one task as a timeline."""
    task = await celeriac.get(task_id, tenant=caller.tenant)
    events = await _events(celeriac, caller.tenant, task_id)
    steps = await celeriac.steps(task_id, tenant=caller.tenant)
    now = datetime.now(UTC)
    return render(
        request,
        "task_part.html" if part else "task.html",
        caller=caller,
        task=task,
        has_history=_has_history(task),
        view=view_of(task, steps, events, now=now, caller=caller),
        timeline=make_timeline(events, steps, now=now),
        actions=actions_of(task, steps, caller),
        choices=CHOICES,
        event_types=_EVENT_TYPES,
    )


def _has_history(task: Task) -> bool:
    """Whether its conversation can be shown; a hidden one begins with its end."""
    if is_hidden_id(task.conversation_id):
        return task.status.is_terminal
    return task.conversation_id is not None


async def _events(
    celeriac: AsyncOrchestrator, tenant: str, task_id: str
) -> list[TaskEvent]:
    events: list[TaskEvent] = []
    while len(events) < MOST_EVENTS:
        after = events[-1].sequence if events else -1
        found = await celeriac.read_events(task_id, after=after, tenant=tenant)
        events += found
        if not found or found[-1].type.is_end:
            break
    return events


@router.post("/ui/tasks/{task_id}/cancel")
async def cancel(task_id: TaskId, caller: Canceller, celeriac: Celeriac) -> Response:
    """Ask for the task's end; one that has ended stays as it is."""
    task = await celeriac.cancel(task_id, tenant=caller.tenant)
    return to(_url_of(task.id))


@router.post("/ui/tasks/{task_id}/retry")
async def retry(
    task_id: TaskId, request: Request, caller: Submitter, celeriac: Celeriac
) -> Response:
    """Submit the request of an ended task again, and show the new one."""
    await admit(request, celeriac, caller)
    handle = await celeriac.retry(
        task_id, tenant=caller.tenant, metadata=stamped(None, caller)
    )
    return to(_url_of(handle.id))


@router.post("/ui/tasks/{task_id}/resolve")
async def resolve(
    task_id: TaskId, request: Request, caller: Approver, celeriac: Celeriac
) -> Response:
    """Decide on a call that the task waits for."""
    form = await form_of(request)
    task = await celeriac.get(task_id, tenant=caller.tenant)
    steps = await celeriac.steps(task_id, tenant=caller.tenant)
    check_may_decide(task, steps, caller)
    decision = form.get("decision", "")
    if decision not in tuple(Action):
        raise InvalidInput(
            "decision", f"must be one of {', '.join(Action)}; press one of them"
        )
    task = await celeriac.resolve(
        task_id,
        form.get("call_id", ""),
        Action(decision),
        output=_output_of(form.get("output", "")) if decision == "done" else None,
        note=form.get("note", ""),
        tenant=caller.tenant,
    )
    return to(_url_of(task.id))


def _output_of(text: str) -> JsonValue:
    """JSON as it is meant, else the text itself."""
    if not text.strip():
        return None
    try:
        output: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return output


def _url_of(task_id: str) -> str:
    return f"/ui/tasks/{quote(task_id, safe='')}"


@router.get("/ui/conversations")
async def conversations_page(
    request: Request, caller: Reader, celeriac: Celeriac, cursor: Cursor = ""
) -> Response:
    """Show conversations, newest first."""
    page = await celeriac.conversations.list(
        limit=TASKS_SHOWN, cursor=cursor or None, tenant=caller.tenant
    )
    more = urlencode({"cursor": page.next_cursor}) if page.next_cursor else None
    return render(
        request,
        "conversations.html",
        caller=caller,
        conversations=page.conversations,
        next_url=f"/ui/conversations?{more}" if more else None,
    )


@router.get("/ui/conversations/{conversation_id}")
async def conversation_page(
    conversation_id: Annotated[str, Path(max_length=256)],
    request: Request,
    caller: Reader,
    celeriac: Celeriac,
    before: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
) -> Response:
    """Show a conversation's newest messages, or those before one."""
    service = celeriac.conversations
    try:
        conversation = await service.get(conversation_id, tenant=caller.tenant)
    except ConversationNotFound:
        raise ConversationNotFound(conversation_id[:64]) from None
    messages = await service.get_messages(
        conversation_id, limit=MESSAGES_SHOWN, before=before, tenant=caller.tenant
    )
    first = messages[0].seq if messages else 1
    url = f"/ui/conversations/{quote(conversation_id, safe='')}?before={first}"
    return render(
        request,
        "conversation.html",
        caller=caller,
        conversation=conversation,
        messages=messages,
        older_url=url if first > 1 + conversation.dropped_messages else None,
    )


@router.get("/ui/agents")
async def agents_page(
    request: Request, caller: Reader, celeriac: Celeriac, *, part: bool = False
) -> Response:
    """Show agents and how they fare; whoever operates the system sees its workers."""
    overview = await celeriac.overview(tenant=caller.tenant, fleet=operates(caller))
    infos = {info.name: info for info in await celeriac.agents()}
    return render(
        request,
        "agents_part.html" if part else "agents.html",
        caller=caller,
        overview=overview,
        agents=[(each, infos[each.name]) for each in overview.agents],
        readiness=await celeriac.readiness(),
    )
