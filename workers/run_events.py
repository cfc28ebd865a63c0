"""The events of a step: pure functions from what happened to log entries.

Items follow the Responses API: a message or a tool call is added, filled and done, and
`output_index` counts items over the whole run.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from conversations.json_value import JsonObject, dumps
from conversations.message import Message, ToolCall
from orchestrator.events import EventType, NewEvent
from orchestrator.journal import Step
from workers.agents.agent import ToolResult
from workers.llm.provider import Completion

PREVIEW_CHARACTERS = 2000
"""A tool's output in the log is cut here; the journal keeps it whole."""


def completion_event(
    completion: Completion,
    seconds: float,
    *,
    number: int,
    estimated: int,
    history: list[JsonValue],
) -> NewEvent:
    """Return the log entry of a recorded completion; `history` is what it was shown."""
    facts: dict[str, JsonValue] = {
        "completion": number,
        "model": completion.model,
        "finish_reason": str(completion.finish_reason),
        "seconds": round(seconds, 3),
        "tool_calls": [call.name for call in completion.message.tool_calls],
        "estimated_input_tokens": estimated,
        "usage": completion.usage.told() if completion.usage else None,
    }
    if history:
        facts["history"] = history
    return NewEvent(EventType.COMPLETION_RECORDED, facts)


def summary_event(summary: Message | None, step: Step, *, messages: int) -> NewEvent:
    """Return the log entry of a recorded summary."""
    facts: dict[str, JsonValue] = {
        "name": step.key,
        "covers": summary.covers if summary else None,
        "messages": messages,
        "usage": step.usage.told(),
    }
    return NewEvent(EventType.STEP_RECORDED, facts)


def message_events(text: str, *, item_id: str, index: int) -> list[NewEvent]:
    """Return the log entries of a message that is said as a whole."""
    return [
        *message_begun_events(item_id, index),
        text_delta_event(text, item_id, index),
        *message_ended_events(text, item_id, index),
    ]


def message_begun_events(item_id: str, index: int) -> list[NewEvent]:
    """Return the log entries of a message whose text is yet to come."""
    item: JsonObject = {"id": item_id, "type": "message"}
    return [
        NewEvent(EventType.ITEM_ADDED, {"output_index": index, "item": item}),
        NewEvent(EventType.PART_ADDED, _place(item_id, index)),
    ]


def text_delta_event(text: str, item_id: str, index: int) -> NewEvent:
    """Return the log entry of a piece of a message."""
    place = _place(item_id, index)
    return NewEvent(EventType.TEXT_DELTA, {**place, "delta": text})


def message_ended_events(
    text: str, item_id: str, index: int, *, is_commentary: bool = False
) -> list[NewEvent]:
    """Return the log entries of a message that is whole."""
    place: JsonObject = {**_place(item_id, index), "text": text}
    item: JsonObject = {"id": item_id, "type": "message", "text": text}
    if is_commentary:
        item["phase"] = "commentary"
    return [
        NewEvent(EventType.TEXT_DONE, place),
        NewEvent(EventType.PART_DONE, place),
        NewEvent(EventType.ITEM_DONE, {"output_index": index, "item": item}),
    ]


def message_cut_event(text: str, item_id: str, index: int) -> NewEvent:
    """Return the log entry of a message that will not be ended: another replaces it."""
    item: JsonObject = {
        "id": item_id,
        "type": "message",
        "text": text,
        "status": "incomplete",
    }
    data: JsonObject = {"output_index": index, "item": item}
    return NewEvent(EventType.ITEM_DONE, data)


def _place(item_id: str, index: int) -> JsonObject:
    return {"item_id": item_id, "output_index": index}


def client_call_events(
    calls: Sequence[ToolCall], *, completion: int, index: int
) -> list[NewEvent]:
    """Return the log entries of calls that the client is to make."""
    events: list[NewEvent] = []
    for offset, call in enumerate(calls):
        item_id = f"client-{completion}:{call.id}"
        item = {**_tool_item(call, item_id=item_id), "type": "client_tool_call"}
        place: dict[str, JsonValue] = {"output_index": index + offset}
        events += [
            NewEvent(EventType.ITEM_ADDED, {**place, "item": item}),
            *_arguments_events(call, {**place, "item_id": item_id, "name": call.name}),
            NewEvent(EventType.ITEM_DONE, {**place, "item": item}),
        ]
    return events


def tool_started_events(
    call: ToolCall, *, item_id: str, index: int, in_pieces: bool = False
) -> list[NewEvent]:
    """Return the log entries of a tool call that begins.

    Only those who read a text in pieces add its arguments up, so others cost none.
    """
    item = _tool_item(call, item_id=item_id)
    added: dict[str, JsonValue] = {"output_index": index, "item": item}
    facts: JsonObject = {"item_id": item_id, "output_index": index, "name": call.name}
    started = NewEvent(EventType.TOOL_CALL_STARTED, facts)
    if not in_pieces:
        return [NewEvent(EventType.ITEM_ADDED, added), started]
    return [
        NewEvent(EventType.ITEM_ADDED, {**added, "in_pieces": True}),
        started,
        *_arguments_events(call, facts),
    ]


def _arguments_events(call: ToolCall, facts: JsonObject) -> list[NewEvent]:
    arguments = dumps(call.arguments)
    return [
        NewEvent(EventType.ARGUMENTS_DELTA, {**facts, "delta": arguments}),
        NewEvent(EventType.ARGUMENTS_DONE, {**facts, "arguments": arguments}),
    ]


def tool_ended_events(
    call: ToolCall, result: ToolResult, *, item_id: str, index: int, seconds: float
) -> list[NewEvent]:
    """Return the log entries of a tool call that ended."""
    ended = EventType.TOOL_CALL_COMPLETED
    if result.error is not None:
        ended = EventType.TOOL_CALL_FAILED
    item: dict[str, JsonValue] = {
        **_tool_item(call, item_id=item_id),
        "output": result.content[:PREVIEW_CHARACTERS],
        "error": result.error,
    }
    if len(result.content) > PREVIEW_CHARACTERS:
        item["output_characters"] = len(result.content)
    facts: dict[str, JsonValue] = {
        "item_id": item_id,
        "output_index": index,
        "name": call.name,
        "error": result.error,
        "seconds": round(seconds, 3),
    }
    return [
        NewEvent(ended, facts),
        NewEvent(EventType.ITEM_DONE, {"output_index": index, "item": item}),
    ]


def _tool_item(call: ToolCall, *, item_id: str) -> dict[str, JsonValue]:
    return {
        "id": item_id,
        "type": "tool_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }
