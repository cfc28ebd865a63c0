"""`POST /v1/responses`: what a client asks for, and the submit that it becomes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from conversations.message import Message, Role
from orchestrator.agent_config import MOST_OUTPUT_TOKENS
from orchestrator.http.facade.items import check_turn, refuse
from orchestrator.http.facade.tool_choice import tool_choice_of
from orchestrator.http.facade.unserved import Unserved, refuse_unserved
from orchestrator.http.submitter import RESERVED
from orchestrator.prompt import MESSAGES_FIELD

ECHO: str = "celeriac.response"
"""The metadata key of what the response object repeats of its request."""

_FORMATS = ("text", "json_object", "json_schema")
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

MetadataText = Annotated[str, Field(max_length=512)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], MetadataText], Field(max_length=16)
]


def _not_ours(metadata: dict[str, str]) -> dict[str, str]:
    if any(key.startswith(RESERVED) for key in metadata):
        raise ValueError(f"keys that begin with {RESERVED} are the service's own")
    return metadata


TaskMetadata = Annotated[Metadata, AfterValidator(_not_ours)]

OutputTokens = Annotated[int, Field(ge=1, le=MOST_OUTPUT_TOKENS)]


class FieldNames(NamedTuple):
    """What a client calls fields that may be refused."""

    format: str
    schema: str
    function: str
    effort: str


RESPONSES: Final = FieldNames(
    "text.format", "text.format.schema", "", "reasoning.effort"
)


class ConversationRef(BaseModel):
    """A conversation by its id."""

    id: str = Field(max_length=256)


class ResponseRequest(BaseModel):
    """A request for a response. Fields that are not known are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "researcher",
                    "input": "How is a lost task found?",
                    "background": True,
                }
            ]
        },
    )

    model: str = Field(min_length=1, max_length=256, description="An agent's name.")
    input: str | list[dict[str, JsonValue]] = Field(description="Text or items.")
    prompt: dict[str, JsonValue] | None = Field(
        default=None, description="Refused: no templates are kept here."
    )
    instructions: str | None = None
    background: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    conversation: str | ConversationRef | None = None
    previous_response_id: Annotated[str, Field(max_length=256)] | None = None
    metadata: TaskMetadata | None = None
    tools: list[dict[str, JsonValue]] | None = Field(default=None, max_length=128)
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: OutputTokens | None = None
    max_tool_calls: Annotated[int, Field(ge=0, le=100_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    reasoning: dict[str, JsonValue] | None = None
    text: dict[str, JsonValue] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None
    include: Annotated[Any, Field(description="Probabilities are refused.")] = None
    top_logprobs: Unserved = None
    moderation: Unserved = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation that it continues."""
        given = self.conversation
        return given.id if isinstance(given, ConversationRef) else given

    @property
    def is_stored(self) -> bool:
        """Whether the client will ask for it again."""
        return self.store is not False

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            Problem: names the field.
        """
        if self.conversation is not None and self.previous_response_id is not None:
            raise refuse(
                "previous_response_id",
                "Mutually exclusive parameters: conversation, previous_response_id.",
                code="mutually_exclusive_parameters",
            )
        if self.prompt is not None:
            raise refuse(
                "prompt",
                "templates of prompts are not kept here; send instructions and input",
                code="unsupported_parameter",
            )
        refuse_unserved(self)
        if self.background and not self.is_stored:
            raise refuse("store", "background needs store; leave store out")

    def check_opening(self, messages: Sequence[Message]) -> None:
        """Refuse the messages of `input` when no turn begins with such.

        Raises:
            Problem: a call has no output, or an output has no call.
        """
        continues = bool(self.conversation or self.previous_response_id)
        check_turn(messages, continues=continues)

    def parameters(self, names: FieldNames = RESPONSES) -> dict[str, JsonValue]:
        """Return the task's parameters; refusals name fields as the client does.

        Raises:
            Problem: a tool or format cannot be taken.
        """
        found: dict[str, JsonValue] = {
            "instructions": self.instructions,
            "tools": self._tools(names),
            "tool_choice": self._tool_choice(),
            "parallel_tool_calls": self.parallel_tool_calls,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "reasoning_effort": self._effort(),
            "output_schema": self._output_schema(names),
        }
        return {name: value for name, value in found.items() if value is not None}

    def echo(self) -> dict[str, JsonValue]:
        """Return what the response object repeats, beside the parameters."""
        given = self.model_dump(
            mode="json",
            exclude={
                *("input", "metadata", "stream", "model", "conversation"),
                *("include", "top_logprobs", "moderation"),
            },
            exclude_none=True,
        )
        return {**given, "has_conversation": self.conversation is not None}

    def _tools(self, names: FieldNames) -> list[JsonValue] | None:
        if not self.tools:
            return None
        found: list[JsonValue] = []
        for index, tool in enumerate(self.tools):
            if tool.get("type") != "function":
                raise refuse(
                    f"tools[{index}].type",
                    "only function tools are taken; an agent's own tools are in its"
                    " configuration",
                )
            found.append(_function(tool, param=f"tools[{index}]{names.function}"))
        return found

    def _tool_choice(self) -> JsonValue:
        names = [tool.get("name") for tool in self.tools or []]
        return tool_choice_of(self.tool_choice, names)

    def _effort(self) -> JsonValue:
        effort = (self.reasoning or {}).get("effort")
        if effort is not None and not isinstance(effort, str):
            raise refuse("reasoning.effort", "must be a text, as low, medium or high")
        return effort

    def _output_schema(self, names: FieldNames) -> JsonValue:
        wanted = (self.text or {}).get("format")
        if wanted is None:
            return None
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        if not isinstance(wanted, dict) or kind not in _FORMATS:
            raise refuse(
                f"{names.format}.type", f"must be one of: {', '.join(_FORMATS)}"
            )
        if kind != "json_schema":
            return {"type": "object"} if kind == "json_object" else None
        schema = wanted.get("schema")
        if not isinstance(schema, dict):
            raise refuse(names.schema, "must be a JSON Schema object")
        return schema


def input_of(messages: tuple[Message, ...]) -> dict[str, JsonValue]:
    """Return a task's input for the messages of a turn."""
    first = messages[0]
    if len(messages) == 1 and first.role is Role.USER and not first.images:
        return {"prompt": first.content}
    dumped: list[JsonValue] = [
        m.model_dump(mode="json", exclude_defaults=True) for m in messages
    ]
    return {MESSAGES_FIELD: dumped}


def _function(tool: dict[str, Any], *, param: str) -> JsonValue:
    name, schema = tool.get("name"), tool.get("parameters")
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise refuse(
            f"{param}.name", "must be 1 to 64 letters, digits, underscores and hyphens"
        )
    if schema is not None and not isinstance(schema, dict):
        raise refuse(f"{param}.parameters", "must be a JSON Schema object")
    description = tool.get("description")
    if description is not None and not isinstance(description, str):
        raise refuse(f"{param}.description", "must be a text")
    return {"name": name, "description": description, "parameters": schema}
