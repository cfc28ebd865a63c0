"""`POST /v1/chat/completions`: what a client asks for, and the submit it becomes."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from conversations.message import Message
from orchestrator.agent_config import MOST_STOP_CHARACTERS, MOST_STOPS
from orchestrator.http.facade.items import ItemNames, check_turn, read_items, refuse
from orchestrator.http.facade.response_request import (
    FieldNames,
    OutputTokens,
    ResponseRequest,
    TaskMetadata,
)
from orchestrator.http.facade.tool_choice import flat_choice
from orchestrator.http.facade.unserved import Unserved, refuse_unserved

CHAT: Final = FieldNames(
    "response_format",
    "response_format.json_schema.schema",
    ".function",
    "reasoning_effort",
)
_CALL: Final = {
    "call_id": "id",
    "name": "function.name",
    "arguments": "function.arguments",
}
_RESULT: Final = {"call_id": "tool_call_id", "output": "content"}
"""What a chat calls fields of items."""

_OWN: Final = {"seed", "frequency_penalty", "presence_penalty", "stop"}
"""Parameters of a task that responses know nothing of."""

Penalty = Annotated[float, Field(ge=-2, le=2)]
StopSequence = Annotated[str, Field(min_length=1, max_length=MOST_STOP_CHARACTERS)]
NamedItem = tuple[ItemNames, dict[str, Any]]


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request for one completion. Fields that are not known are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "assistant",
                    "messages": [{"role": "user", "content": "Hello"}],
                }
            ]
        },
    )

    model: str = Field(min_length=1, max_length=256, description="An agent's name.")
    messages: list[dict[str, JsonValue]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    tools: list[dict[str, JsonValue]] | None = Field(default=None, max_length=128)
    functions: Unserved = None
    function_call: Unserved = None
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, JsonValue] | None = None
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stop: (
        StopSequence
        | Annotated[list[StopSequence], Field(max_length=MOST_STOPS)]
        | None
    ) = None
    reasoning_effort: Annotated[str, Field(max_length=64)] | None = None
    logprobs: Unserved = None
    top_logprobs: Unserved = None
    logit_bias: Unserved = None
    modalities: Unserved = None
    audio: Unserved = None
    web_search_options: Unserved = None
    moderation: Unserved = None
    metadata: TaskMetadata | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    def opening(self) -> tuple[Message, ...]:
        """Return the messages of the turn.

        Raises:
            Problem: they cannot be taken, or what no agent gives is asked for.
        """
        refuse_unserved(self)
        items: list[NamedItem] = []
        for index, message in enumerate(self.messages):
            items += _items(message, f"messages[{index}]")
        messages = read_items(items, param="messages")
        check_turn(messages, continues=False, param="messages")
        return messages

    def parameters(self) -> dict[str, JsonValue]:
        """Return the task's parameters.

        Raises:
            Problem: a tool or format cannot be taken.
        """
        asked = ResponseRequest(
            model=self.model,
            input="-",
            tools=[_tool(tool, index) for index, tool in enumerate(self.tools or ())],
            tool_choice=flat_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls,
            max_output_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            text={"format": _format(self.response_format)},
            reasoning={"effort": self.reasoning_effort},
        )
        own = self.model_dump(include=_OWN, exclude_none=True)
        return {**asked.parameters(CHAT), **own}


def _items(message: dict[str, Any], param: str) -> list[NamedItem]:
    """Return a chat message as items."""
    role, content = message.get("role"), message.get("content")
    if role == "function":
        raise refuse(
            f"{param}.role", "outputs come as role tool, with the call's tool_call_id"
        )
    if message.get("function_call"):
        raise refuse(
            f"{param}.function_call", "send the call in tool_calls, with an id"
        )
    if role == "tool":
        output = content if isinstance(content, list) else str(content or "")
        call_id = message.get("tool_call_id")
        item = {"type": "function_call_output", "call_id": call_id, "output": output}
        return [(ItemNames(param, _RESULT), item)]
    items: list[NamedItem] = []
    calls = message.get("tool_calls")
    if content is not None or not calls:
        item = {"type": "message", "role": role, "content": content}
        items.append((ItemNames(param), item))
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        place = f"{param}.tool_calls[{index}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise refuse(place, "only function calls are taken")
        item = {**function, "type": "function_call", "call_id": call.get("id")}
        items.append((ItemNames(place, _CALL), item))
    return items


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise refuse(f"tools[{index}]", "only function tools are taken")
    return {**function, "type": "function"}


def _format(wanted: dict[str, Any] | None) -> dict[str, Any]:
    if wanted is None:
        return {"type": "text"}
    schema = wanted.get("json_schema")
    inner = schema if isinstance(schema, dict) else {}
    return {**inner, "type": wanted.get("type")}
