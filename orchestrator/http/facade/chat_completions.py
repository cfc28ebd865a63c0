"""`/v1/chat/completions`, for clients that know nothing else: submits and waits.

The connection is all that such a client has, so a run whose client leaves is cancelled,
unless an `Idempotency-Key` lets it come back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from conversations.json_value import dumps
from orchestrator.errors import AgentNotFound
from orchestrator.http.admission import admit
from orchestrator.http.auth import Submitter
from orchestrator.http.dependencies import (
    Celeriac,
    Responses,
    limits_of,
    openai_problems,
)
from orchestrator.http.facade.chat_request import CHAT, ChatRequest
from orchestrator.http.facade.chat_schema import ChatBody
from orchestrator.http.facade.formed_text import FormedText
from orchestrator.http.facade.given import (
    check_format,
    check_no_nuls,
    named_as_sent,
)
from orchestrator.http.facade.ids import response_id
from orchestrator.http.facade.response_events import DONE
from orchestrator.http.facade.response_object import is_formed
from orchestrator.http.facade.response_request import input_of
from orchestrator.http.facade.shown_text import AnswerChanged, ShownText, given_up
from orchestrator.http.facade.whole_texts import with_whole_texts
from orchestrator.http.idempotency import IdempotencyKey
from orchestrator.http.problem import Problem, openai_error
from orchestrator.http.roles import check_roles
from orchestrator.http.stream import KEEPALIVE, NOTHING, EventStream, follow
from orchestrator.http.waiting import wait_for_answer
from orchestrator.orchestrator import AsyncOrchestrator
from orchestrator.output_schema import json_of
from orchestrator.said import SUBMITTED_BY
from orchestrator.task import StopReason, Task, TaskStatus, Usage

router = APIRouter(prefix="/v1/chat/completions", tags=["openai"])

ANSWER: Responses = {
    200: {
        "description": "The completion, or its stream.",
        "model": ChatBody,
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
NO_RETRY = {"x-should-retry": "false"}
"""The run has ended or goes on: the same request again would pay a second time."""
_OF_THE_REQUEST = frozenset(
    {"invalid_parameters", "invalid_input", "context_too_long", "context_overflow"}
)
"""What a client can mend by asking otherwise, by code."""
_FINISH = {
    StopReason.CLIENT_TOOL_CALLS: "tool_calls",
    StopReason.MAX_TOKENS: "length",
    StopReason.MAX_TURNS: "length",
    StopReason.SOFT_TIME_LIMIT: "length",
    StopReason.BUDGET: "length",
    StopReason.CONTENT_FILTER: "content_filter",
}


@router.post(
    "",
    responses={**openai_problems(404, 409, 429, 500, 504), **ANSWER},
    response_model=None,
)
async def create_completion(
    body: ChatRequest,
    request: Request,
    caller: Submitter,
    celeriac: Celeriac,
    key: IdempotencyKey,
) -> Response:
    """Ask an agent and wait for its answer."""
    check_no_nuls(body, besides="messages")
    opening = body.opening()
    check_roles(opening, request)
    await admit(request, celeriac, caller)
    parameters = body.parameters()
    await check_format(parameters, param=CHAT.schema)
    has_form = "output_schema" in parameters
    is_live = has_form and body.stream and not await _has_tools(celeriac, body)
    with named_as_sent(CHAT):
        handle = await celeriac.submit(
            body.model,
            input_of(opening),
            parameters={**parameters, **({"stream": True} if body.stream else {})},
            metadata={**(body.metadata or {}), SUBMITTED_BY: caller.name},
            idempotency_key=key,
            tenant=caller.tenant,
        )
    task = handle.accepted
    if body.stream:
        options = body.stream_options
        with_usage = bool(options and options.include_usage)
        shown = ShownText(() if handle.created else await _given_up(celeriac, task))
        formed = FormedText(shown, is_live=bool(is_live)) if has_form else shown
        pieces = _pieces(celeriac, task, formed, include_usage=with_usage)
        return EventStream(
            pieces,
            send_timeout=limits_of(request).send_timeout,
            on_gone=None
            if key
            else lambda: celeriac.cancel(task.id, tenant=task.tenant),
        )
    seconds = limits_of(request).max_wait
    task = await wait_for_answer(
        celeriac, task, seconds=seconds, request=request, key=key
    )
    _check_ended(task, seconds)
    return JSONResponse(_completion(task))


def _check_ended(task: Task, seconds: float) -> None:
    if not task.status.is_terminal:
        raise Problem(
            504,
            "wait_timeout",
            f"task {task.id} has not ended within {seconds:g} s and goes on;"
            " read it at /tasks, or use /v1/responses with background",
            headers=NO_RETRY,
        )
    if task.status is TaskStatus.COMPLETED:
        return
    raise _failed(task)


def _failed(task: Task) -> Problem:
    failure = task.failure
    code = failure.code if failure else f"task_{task.status.value}"
    message = failure.message if failure else f"task {task.id} {task.status.value}"
    status = 429 if code in ("rate_limited", "quota_exhausted") else 500
    if code in _OF_THE_REQUEST:
        status = 400
    return Problem(status, code, message, headers=NO_RETRY)


def _completion(task: Task) -> dict[str, Any]:
    result = task.result
    if result is None:
        raise Problem(500, "internal_error", f"task {task.id} has no result")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _content(task) or None,
        "refusal": None,
    }
    calls = _calls(task)
    if calls:
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": _FINISH.get(result.stop_reason, "stop"),
        "logprobs": None,
    }
    return {
        **_head(task, "chat.completion"),
        "choices": [choice],
        "usage": _usage(result.stats.usage),
    }


def _content(task: Task) -> str:
    """Return the answer; JSON that was asked for without a fence around it."""
    content = task.result.content if task.result else ""
    return json_of(content) if is_formed(task) else content


def _calls(task: Task) -> list[dict[str, Any]]:
    result = task.result
    if result is None or result.stop_reason is not StopReason.CLIENT_TOOL_CALLS:
        return []
    output = result.output if isinstance(result.output, dict) else {}
    given = output.get("tool_calls")
    calls = given if isinstance(given, list) else []
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["name"],
                "arguments": dumps(call.get("arguments", {})),
            },
        }
        for call in calls
        if isinstance(call, dict)
    ]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _head(task: Task, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{task.id.removeprefix('task-')}",
        "object": kind,
        "created": int(task.created_at.timestamp()) if task.created_at else 0,
        "model": task.agent_name,
        "service_tier": None,
    }


async def _has_tools(celeriac: AsyncOrchestrator, body: ChatRequest) -> bool:
    """Whether the run may call tools; other kinds of agents bring their own."""
    if body.tools:
        return True
    try:
        config = (await celeriac.agent(body.model)).config
    except AgentNotFound:  # so far: a worker may make it known meanwhile
        return True
    return config.kind != "llm" or bool(config.tools)


async def _given_up(celeriac: AsyncOrchestrator, task: Task) -> set[str]:
    """Return the items of an earlier request's run that another has replaced."""
    found: set[str] = set()
    after = -1
    while events := await celeriac.read_events(
        task.id, after=after, tenant=task.tenant
    ):
        found |= given_up(events)
        after = events[-1].sequence
    return found


async def _pieces(
    celeriac: AsyncOrchestrator,
    task: Task,
    shown: ShownText | FormedText,
    *,
    include_usage: bool,
) -> AsyncIterator[bytes]:
    yield _chunk(task, {"role": "assistant", "content": ""})
    events = follow(celeriac, task.id, after=-1, tenant=task.tenant)
    try:
        async for event in with_whole_texts(events):
            if event is None:
                yield KEEPALIVE
            elif event.type.is_end:
                ended = await celeriac.get(task.id, tenant=task.tenant)
                for piece in _ending(ended, shown, include_usage=include_usage):
                    yield piece
            else:
                text = shown.take(event)
                yield _chunk(task, {"content": text}) if text else NOTHING
    except AnswerChanged:
        yield _error(_changed(task))
    yield DONE


def _error(problem: Problem) -> bytes:
    return f"data: {dumps(openai_error(problem))}\n\n".encode()


def _changed(task: Task) -> Problem:
    return Problem(
        500,
        "answer_changed",
        "the model was cut off and has then answered differently from what was sent;"
        f" read the answer at /v1/responses/{response_id(task.id)}",
    )


def _ending(
    task: Task, shown: ShownText | FormedText, *, include_usage: bool
) -> list[bytes]:
    if task.status is not TaskStatus.COMPLETED or task.result is None:
        return [_error(_failed(task))]
    rest = shown.finish(_content(task))
    pieces = [_chunk(task, {"content": rest})] if rest else []
    calls = [{"index": n, **call} for n, call in enumerate(_calls(task))]
    if calls:
        pieces.append(_chunk(task, {"tool_calls": calls}))
    finish = _FINISH.get(task.result.stop_reason, "stop")
    pieces.append(_chunk(task, {}, finish=finish))
    if include_usage:
        usage = _usage(task.result.stats.usage)
        last = {**_head(task, "chat.completion.chunk"), "choices": [], "usage": usage}
        pieces.append(f"data: {dumps(last)}\n\n".encode())
    return pieces


def _chunk(task: Task, delta: dict[str, Any], *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    body = {**_head(task, "chat.completion.chunk"), "choices": [choice]}
    return f"data: {dumps(body)}\n\n".encode()
