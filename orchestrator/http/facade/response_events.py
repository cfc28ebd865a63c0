"""A task's events as OpenAI's stream: one to one, by a pure table.

An event's sequence is its `sequence_number`. Events of our own have no counterpart and
leave a gap in the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from conversations.json_value import dumps
from orchestrator.events import EventType, TaskEvent
from orchestrator.http.facade.ids import is_worker_call, item_id
from orchestrator.http.facade.response_object import is_background, snapshot
from orchestrator.http.facade.shapes import (
    Shape,
    function_call_item,
    mcp_call_item,
    message_item,
    output_text,
)
from orchestrator.task import Task

DONE: Final = b"data: [DONE]\n\n"
TERMINAL: Final = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",
    "failed": "response.failed",
}
"""A response's last event by its status. OpenAI has none for a cancel."""
_MCP_ARGUMENTS: Final = "response.mcp_call_arguments"


def wire(kind: str, sequence: int, fields: Mapping[str, Any]) -> bytes:
    """Return an event as it is sent."""
    body = dumps({"type": kind, "sequence_number": sequence, **fields})
    return f"event: {kind}\ndata: {body}\n\n".encode()


def facade_event(event: TaskEvent, task: Task) -> tuple[str, Shape] | None:
    """Return OpenAI's event for one of a task's; None where there is none.

    The end is not among them: it carries the whole response.
    """
    make = _TABLE.get(event.type)
    return make(event, task) if make else None


def _created(_event: TaskEvent, task: Task) -> tuple[str, Shape]:
    status = "queued" if is_background(task) else "in_progress"
    return "response.created", {"response": snapshot(task, status)}


def _queued(_event: TaskEvent, task: Task) -> tuple[str, Shape] | None:
    if not is_background(task):
        return None
    return "response.queued", {"response": snapshot(task, "queued")}


def _started(event: TaskEvent, task: Task) -> tuple[str, Shape] | None:
    if event.attempt > 1:  # told once, whatever the attempts
        return None
    return "response.in_progress", {"response": snapshot(task, "in_progress")}


def _item(kind: str, status: str) -> Callable[[TaskEvent, Task], tuple[str, Shape]]:
    def make(event: TaskEvent, task: Task) -> tuple[str, Shape]:
        item = event.data.get("item")
        given: dict[str, Any] = item if isinstance(item, dict) else {}
        is_done = status == "completed"
        if is_done and given.get("status"):
            shape = _shape_of(given, task, str(given["status"]), is_done=True)
        else:
            shape = _shape_of(given, task, status, is_done=is_done)
        if event.data.get("in_pieces"):
            shape["arguments"] = ""  # they follow
        return kind, {"output_index": event.data.get("output_index", 0), "item": shape}

    return make


def _shape_of(
    item: Mapping[str, Any], task: Task, status: str, *, is_done: bool
) -> Shape:
    name = item_id(task.id, str(item.get("id", "")))
    if item.get("type") == "message":
        text = str(item.get("text", "")) if is_done else None
        return message_item(name, text, status=status, phase=item.get("phase"))
    arguments = dumps(item.get("arguments", {}))
    if item.get("type") == "client_tool_call":
        return function_call_item(
            name,
            str(item.get("call_id")),
            str(item.get("name")),
            arguments if is_done else "",
            status=status,
        )
    return _mcp_shape(item, name, arguments, status)


def _mcp_shape(
    item: Mapping[str, Any], name: str, arguments: str, status: str
) -> Shape:
    error, output = item.get("error"), item.get("output")
    return mcp_call_item(
        name,
        str(item.get("name")),
        arguments,
        output=None if error or output is None else str(output),
        error=f"{error}: {output or ''}" if error else None,
        status="failed" if error else status,
    )


def _place(event: TaskEvent, task: Task) -> Shape:
    return {
        "item_id": item_id(task.id, str(event.data.get("item_id", ""))),
        "output_index": event.data.get("output_index", 0),
    }


def _part(kind: str) -> Callable[[TaskEvent, Task], tuple[str, Shape]]:
    def make(event: TaskEvent, task: Task) -> tuple[str, Shape]:
        text = str(event.data.get("text", ""))
        place = {**_place(event, task), "content_index": 0}
        return kind, {**place, "part": output_text(text)}

    return make


def _text_delta(event: TaskEvent, task: Task) -> tuple[str, Shape]:
    place = {**_place(event, task), "content_index": 0}
    delta = {"delta": event.data.get("delta", ""), "logprobs": []}
    return "response.output_text.delta", {**place, **delta}


def _text_done(event: TaskEvent, task: Task) -> tuple[str, Shape]:
    place = {**_place(event, task), "content_index": 0}
    text = {"text": event.data.get("text", ""), "logprobs": []}
    return "response.output_text.done", {**place, **text}


def _arguments_delta(event: TaskEvent, task: Task) -> tuple[str, Shape]:
    delta = {"delta": event.data.get("delta", "")}
    return f"{_arguments_of(event)}.delta", {**_place(event, task), **delta}


def _arguments_done(event: TaskEvent, task: Task) -> tuple[str, Shape]:
    kind = _arguments_of(event)
    names = ("arguments",) if kind == _MCP_ARGUMENTS else ("name", "arguments")
    facts = {name: event.data.get(name, "") for name in names}
    return f"{kind}.done", {**_place(event, task), **facts}


def _arguments_of(event: TaskEvent) -> str:
    is_ours = is_worker_call(str(event.data.get("item_id", "")))
    return _MCP_ARGUMENTS if is_ours else "response.function_call_arguments"


def _call(kind: str) -> Callable[[TaskEvent, Task], tuple[str, Shape]]:
    return lambda event, task: (kind, _place(event, task))


_TABLE: Final[
    Mapping[EventType, Callable[[TaskEvent, Task], tuple[str, Shape] | None]]
] = {
    EventType.TASK_CREATED: _created,
    EventType.TASK_QUEUED: _queued,
    EventType.TASK_STARTED: _started,
    EventType.ITEM_ADDED: _item("response.output_item.added", "in_progress"),
    EventType.PART_ADDED: _part("response.content_part.added"),
    EventType.TEXT_DELTA: _text_delta,
    EventType.TEXT_DONE: _text_done,
    EventType.PART_DONE: _part("response.content_part.done"),
    EventType.ARGUMENTS_DELTA: _arguments_delta,
    EventType.ARGUMENTS_DONE: _arguments_done,
    EventType.TOOL_CALL_STARTED: _call("response.mcp_call.in_progress"),
    EventType.TOOL_CALL_COMPLETED: _call("response.mcp_call.completed"),
    EventType.TOOL_CALL_FAILED: _call("response.mcp_call.failed"),
    EventType.ITEM_DONE: _item("response.output_item.done", "completed"),
}
