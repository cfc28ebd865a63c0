"""A task and its steps as OpenAI's response object. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from conversations.client_calls import client_calls_of, is_client_result
from conversations.json_value import dumps
from conversations.message import Message, Role
from orchestrator.http.facade.ids import item_id, response_id
from orchestrator.http.facade.response_request import ECHO
from orchestrator.http.facade.shapes import (
    COMMENTARY,
    Shape,
    function_call_item,
    function_output_item,
    mcp_call_item,
    message_item,
)
from orchestrator.http.submitter import shown
from orchestrator.journal import ANSWER_ITEM, ANSWER_KEY, HANDOVER_KEY, Step, StepKind
from orchestrator.output_schema import json_of
from orchestrator.prompt import opening_of
from orchestrator.task import StopReason, Task, TaskStatus, Usage

_STATUS = {
    TaskStatus.PENDING: "queued",
    TaskStatus.RUNNING: "in_progress",
    TaskStatus.WAITING: "in_progress",
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.TIMED_OUT: "failed",
    TaskStatus.CANCELLED: "cancelled",
}
_ERROR_TYPES = {
    "rate_limit_exceeded": "rate_limit_error",
    "invalid_prompt": "invalid_request_error",
}
"""By code. OpenAI's own response has no type; the AI SDK reads no error without."""
_ERROR_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "quota_exhausted": "rate_limit_exceeded",
    "context_too_long": "invalid_prompt",
    "context_overflow": "invalid_prompt",
    "invalid_input": "invalid_prompt",
    "invalid_parameters": "invalid_prompt",
}
"""The types of OpenAI's clients know these alone; the true code is in the text."""


def status_of(task: Task) -> str:
    """Return a task's status in OpenAI's words."""
    if task.status is TaskStatus.COMPLETED and task.result and task.result.partial:
        return "incomplete"
    return _STATUS[task.status]


def echo_of(task: Task) -> Mapping[str, Any]:
    """Return what the task's response repeats of its request."""
    echo = task.metadata.get(ECHO)
    return echo if isinstance(echo, dict) else {}


def is_formed(task: Task) -> bool:
    """Whether its client reads the answer as JSON."""
    return "output_schema" in task.parameters


def is_background(task: Task) -> bool:
    """Whether it was asked for in the background; tasks of other clients were."""
    return ECHO not in task.metadata or bool(echo_of(task).get("background"))


def snapshot(task: Task, status: str) -> Shape:
    """Return the response object as it stood before it ended, without output."""
    return {**_head(task), "status": status}


def outline(task: Task) -> Shape:
    """Return how a response in the background stands, and nothing of what it is."""
    bare = {ECHO: {"background": True, "has_conversation": False}}
    return snapshot(task.model_copy(update={"metadata": bare}), status_of(task))


def response_object(task: Task, steps: Sequence[Step]) -> Shape:
    """Return the response object as the task stands."""
    status = status_of(task)
    body = {**_head(task), "status": status, "output": output_of(task, steps)}
    if not task.status.is_terminal:
        return body
    usage = sum((step.usage for step in steps), start=Usage())
    body["usage"] = usage_object(task.result.stats.usage if task.result else usage)
    if status == "completed":
        body["completed_at"] = _seconds(task.finished_at)
    if status == "incomplete" and task.result is not None:
        reason = task.result.stop_reason
        filtered = reason is StopReason.CONTENT_FILTER
        body["incomplete_details"] = {
            "reason": "content_filter" if filtered else "max_output_tokens"
        }
        body["metadata"] = {**body["metadata"], "celeriac.stop_reason": reason.value}
    if status == "failed":
        body["error"] = _error(task)
    return body


def usage_object(usage: Usage) -> Shape:
    """Return tokens in OpenAI's words."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def input_items(task: Task) -> list[Shape]:
    """Return what the response was asked with."""
    found: list[Shape] = []
    opening = opening_of(task.input)
    for number, message in enumerate(opening):
        after = opening[number + 1 : number + 1 + len(message.tool_calls)]
        outputs = {each.tool_call_id: each.content for each in after}
        found += _items_of_message(message, outputs, name=f"{task.id}-in{number}")
    return found


def _items_of_message(
    message: Message, outputs: Mapping[str | None, str], *, name: str
) -> Iterator[Shape]:
    """Yield the items of a message that a client sent, with the outputs of its calls.

    A call is a worker's, unless it is noted as the client's.
    """
    if message.role is Role.TOOL:
        call_id = message.tool_call_id or ""
        if is_client_result(message):
            yield function_output_item(f"fco_{name}", call_id, message.content)
        return
    if message.content or message.images:
        yield message_item(
            f"msg_{name}",
            message.content or None,
            role=message.role.value,
            images=message.images,
        )
    mine = client_calls_of(message)
    for number, call in enumerate(message.tool_calls):
        place, arguments = f"{name}_{number}", dumps(call.arguments)
        if call.id in mine:
            yield function_call_item(f"fc_{place}", call.id, call.name, arguments)
        else:
            output = outputs.get(call.id)
            yield mcp_call_item(f"mcp_{place}", call.name, arguments, output=output)


def output_of(task: Task, steps: Iterable[Step]) -> list[Shape]:
    """Return the items that the steps have given, in the order of the event log."""
    by_key = {step.key: step for step in steps}
    found: list[Shape] = []
    number = 1
    while (step := by_key.get(f"completion:{number}")) is not None:
        outcome = step.outcome if isinstance(step.outcome, dict) else {}
        shown_as = step.shown_as or f"msg-{number}"
        found += _completion_items(task, number, outcome, by_key, shown_as=shown_as)
        number += 1
    answer = by_key.get(ANSWER_KEY)
    if answer is not None:
        found.append(message_item(item_id(task.id, ANSWER_ITEM), str(answer.outcome)))
    return _formed(found, task) if is_formed(task) else found


def _formed(items: list[Shape], task: Task) -> list[Shape]:
    """Set the answer, as its client parses it, apart from what was said before it."""
    messages = [item for item in items if item["type"] == "message"]
    for message in messages[:-1]:
        message["phase"] = COMMENTARY
    if messages and items[-1] is messages[-1] and task.status is TaskStatus.COMPLETED:
        (part,) = messages[-1]["content"]
        part["text"] = json_of(part["text"])
    return items


def _completion_items(
    task: Task,
    number: int,
    outcome: Mapping[str, Any],
    by_key: Mapping[str, Step],
    *,
    shown_as: str,
) -> Iterator[Shape]:
    message: Mapping[str, Any] = outcome.get("message", {})
    if message.get("content"):
        phase = COMMENTARY if message.get("tool_calls") else None
        name = item_id(task.id, shown_as)
        yield message_item(name, message["content"], phase=phase)
    for call in message.get("tool_calls", ()):
        place = f"{number}:{call['id']}"
        step = by_key.get(f"tool:{place}")
        if step is not None and step.kind is StepKind.TOOL_CALL:
            yield _tool_item(task, place, call, step)
    handover = by_key.get(f"{HANDOVER_KEY}:{number}")
    for call in _dicts(handover.outcome if handover else None):
        yield function_call_item(
            item_id(task.id, f"client-{number}:{call['id']}"),
            call["id"],
            call["name"],
            dumps(call.get("arguments", {})),
        )


def _tool_item(task: Task, place: str, call: Mapping[str, Any], step: Step) -> Shape:
    result: Mapping[str, Any] = step.outcome if isinstance(step.outcome, dict) else {}
    error = result.get("error")
    return mcp_call_item(
        item_id(task.id, f"call-{place}"),
        call["name"],
        dumps(call.get("arguments", {})),
        output=None if error else str(result.get("content", "")),
        error=f"{error}: {result.get('content', '')}" if error else None,
        status="failed" if error else "completed",
    )


def _dicts(value: JsonValue) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))


def _head(task: Task) -> Shape:
    echo = echo_of(task)
    has_conversation = echo.get("has_conversation", True)
    conversation = task.conversation_id if has_conversation else None
    reasoning = echo.get("reasoning") or {}
    text = echo.get("text") or {}
    return {
        "id": response_id(task.id),
        "object": "response",
        "created_at": _seconds(task.created_at) or 0,
        "completed_at": None,
        "status": "queued",
        "background": is_background(task),
        "error": None,
        "incomplete_details": None,
        "instructions": echo.get("instructions"),
        "max_output_tokens": echo.get("max_output_tokens"),
        "max_tool_calls": echo.get("max_tool_calls"),
        "model": task.agent_name,
        "output": [],
        "parallel_tool_calls": echo.get("parallel_tool_calls", True),
        "previous_response_id": echo.get("previous_response_id"),
        "conversation": {"id": conversation} if conversation else None,
        "prompt_cache_key": echo.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "safety_identifier": echo.get("safety_identifier"),
        "service_tier": "default",
        "store": echo.get("store", True),
        "temperature": echo.get("temperature", 1.0),
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": echo.get("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in echo.get("tools", ())],
        "top_logprobs": 0,
        "top_p": echo.get("top_p", 1.0),
        "truncation": echo.get("truncation", "disabled"),
        "usage": None,
        "user": echo.get("user"),
        "metadata": {k: _text(v) for k, v in shown(task.metadata).items()},
    }


def _tool(tool: Mapping[str, Any]) -> Shape:
    return {
        "type": "function",
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("parameters"),
        "strict": tool.get("strict", True),
    }


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else dumps(value)


def _error(task: Task) -> Shape:
    failure = task.failure
    code, message = "server_error", f"the task {task.status.value}"
    if failure is not None:
        code = _ERROR_CODES.get(failure.code, code)
        is_named = re.match(rf"{failure.code}\b", failure.message)
        message = failure.message if is_named else f"{failure.code}: {failure.message}"
    kind = _ERROR_TYPES.get(code, "server_error")
    return {"code": code, "message": message, "type": kind}


def _seconds(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())
